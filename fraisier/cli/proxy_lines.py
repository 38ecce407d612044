"""The few lines that a proxy needs in front of an environment: printed by `fraisier init --proxy`."""

from __future__ import annotations

import json

from fraisier.domain.fraise import Environment
from fraisier.domain.release import Layout

_NGINX = """\
upstream {name} {{
    server unix:{link} max_fails=0;
    # While it does not lead anywhere yet: what serves today. Remove it after the first deployment.
    # server 127.0.0.1:8000 backup;
}}
map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
server {{
    listen 80;
    server_name {name}.example.com;
    location / {{
        proxy_pass http://{name};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;   # a connection for each request: none is left open
    }}
}}
"""
_CADDY = """\
{name}.example.com {{
    reverse_proxy unix/{link} {{
        transport http {{
            keepalive off
        }}
    }}
}}
"""
_HAPROXY = """\
# In `global`: no `chroot`, or the socket is outside of it.
backend {name}
    mode http
    option http-server-close
    server current unix@{link}
"""
_HAPROXY_PORTS = """\
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
    server-state-file {state_file}
backend {backend}
    mode http
    option http-server-close
    load-server-state-from-file global
{servers}
# and in fraises.yaml, for a Fraisier that may use that socket and write that file:
#   proxy: {{type: haproxy, socket: /run/haproxy/admin.sock, backend: {backend}, state_file: {state_file}}}
"""
_CADDY_PORTS = """\
# {config}
# Started as `caddy run --resume`, so that it keeps what it was told; and in fraises.yaml:
#   proxy: {{type: caddy, admin: "http://localhost:2019", id: {id}}}
"""
_LINKED = {"nginx": _NGINX, "caddy": _CADDY, "haproxy": _HAPROXY}
BRANDS = tuple(_LINKED)


def lines_for(brand: str, environment: Environment) -> str:
    """What to put into the proxy's configuration."""
    if any(not place.startswith("/") for place in environment.listen):
        return _for_ports(brand, environment)
    return _LINKED[brand].format(name=environment.fraise, link=Layout(environment.app_path).link)


def _for_ports(brand: str, environment: Environment) -> str:
    options = environment.proxy.options if environment.proxy else {}
    if brand == "haproxy":
        servers = (
            f"    server release{port.rpartition(':')[2]} {port} disabled" for port in environment.listen
        )
        return _HAPROXY_PORTS.format(
            backend=options.get("backend", environment.fraise),
            state_file=options.get("state_file", "/var/lib/haproxy/server-state"),
            servers="\n".join(servers),
        )
    if brand == "caddy":
        name = options.get("id", environment.fraise)
        handler = {
            "@id": name,
            "handler": "reverse_proxy",
            "transport": {"protocol": "http", "keep_alive": {"enabled": False}},
            "upstreams": [],
        }
        return _CADDY_PORTS.format(config=json.dumps(handler), id=name)
    return (
        f"# {environment.key} listens on ports, and Fraisier does not tell nginx which of them serves:\n"
        "# let it listen on a socket (leave `listen:` out), or use haproxy or caddy.\n"
    )
