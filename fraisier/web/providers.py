"""`/providers`: which forges may call, and where. Never a secret, only whether there is one."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from fraisier.application.ports import Configuration, Forge, ForgeInstance
from fraisier.web.errors import Answer
from fraisier.web.webhook import PATH


def providers(configuration: Configuration, forges: Mapping[str, Forge]) -> Answer:
    """The configured forge instances."""
    listed = [_provider(each, configuration, forges) for each in configuration.settings.forges]
    return Answer(200, orjson.dumps({"providers": listed}))


def _provider(
    instance: ForgeInstance, configuration: Configuration, forges: Mapping[str, Forge]
) -> dict[str, object]:
    own = [
        name
        for name in sorted(configuration.settings.fraise_secrets)
        if configuration.fraises[name].source.forge == instance.name
    ]
    return {
        "name": instance.name,
        "kind": instance.kind,
        "path": f"{PATH}/{instance.name}",
        "secret_set": any(instance.secrets),
        "fraises_with_own_secret": own,
        # A forge of a third party may leave it out.
        "signature_header": getattr(forges.get(instance.kind), "signature_header", ""),
    }
