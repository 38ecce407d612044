"""What came out of a run of chaos: a line per round while it is played, and a table at the end."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

FOLDER = Path("chaos-results")
_GREEN, _RED, _YELLOW, _DIM, _PLAIN = "\033[32m", "\033[31m", "\033[33m", "\033[2m", "\033[0m"


@dataclass(frozen=True)
class Line:
    """One round: where, what was done there, on which store, and what became of it.

    `point` is where the fault came, or the name of a scenario; `ended` how the deployment ended. A round
    that never came to its point has `reached` False: nothing was tested, and nothing is wrong.
    """

    point: str
    fault: str
    store: str
    ended: str
    seconds: float
    violations: tuple[str, ...] = ()
    reached: bool = True

    @property
    def verdict(self) -> str:
        """ok, VIOLATED or missed."""
        if self.violations:
            return "VIOLATED"
        return "ok" if self.reached else "missed"


@dataclass
class Report:
    """Collects lines and shows them. `command` and `seed` replay the run."""

    seed: int
    command: str = "make chaos"
    total: int = 0  # rounds that are planned; 0 = nobody knows
    widest: int = 24  # characters of the longest point, so that live lines stand in columns
    out: TextIO = field(default_factory=lambda: sys.stdout)
    lines: list[Line] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Say what replays this run, before anything can go wrong."""
        print(f"seed {self.seed}   again: {self.command} (FRAISIER_SEED={self.seed})", file=self.out)

    def add(self, line: Line) -> None:
        """Show a round that was played."""
        self.lines.append(line)
        of = f"/{self.total}" if self.total else ""
        number = f"{len(self.lines):>{len(str(self.total))}}{of}"
        print(f"{self._colour(_DIM, number)} {self._row(line, self._widths(self.lines))}", file=self.out)
        for violation in line.violations:
            print(f"    {self._colour(_RED, violation)}", file=self.out)
        self.out.flush()

    @property
    def violated(self) -> list[Line]:
        """Rounds after which something did not hold."""
        return [line for line in self.lines if line.violations]

    def close(self, name: str = "report") -> int:
        """Show the table, store it below `chaos-results/`; returns the exit code: 1 if anything was violated."""
        print(f"\n{self.table()}\n\n{self.summary()}", file=self.out, flush=True)
        FOLDER.mkdir(exist_ok=True)
        plain = f"{self.table(colour=False)}\n\n{self.summary(colour=False)}\n"
        (FOLDER / f"{name}.txt").write_text(f"seed {self.seed}\n\n{plain}", encoding="utf-8")
        found = {"seed": self.seed, "lines": [asdict(line) for line in self.lines]}
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        return 1 if self.violated or not self.lines else 0

    def table(self, *, colour: bool = True) -> str:
        """Every round, by what was injected, then where."""
        lines = sorted(self.lines, key=lambda line: (line.point, line.fault, line.store))
        widths = self._widths(lines)
        titles = ("POINT", "FAULT", "STORE", "HELD", "ENDED", "SECONDS")
        head = "  ".join(title.ljust(width) for title, width in zip(titles, widths, strict=True)).rstrip()
        body: list[str] = []
        for line in lines:
            body.append(self._row(line, widths, colour=colour))
            body += [f"    {self._colour(_RED, each, colour)}" for each in line.violations]
        return "\n".join([self._colour(_DIM, head, colour), *body])

    def summary(self, *, colour: bool = True) -> str:
        """Rounds per store and fault, and how many of them were violated."""
        rows = []
        for store, fault in sorted({(line.store, line.fault) for line in self.lines}):
            those = [line for line in self.lines if (line.store, line.fault) == (store, fault)]
            count = Counter(line.verdict for line in those)
            rows.append(
                f"{store:<11} {fault:<9} {len(those):>5} rounds  {count['ok']:>5} held  "
                f"{self._shown(count['VIOLATED'], 'violated', _RED, colour)}  "
                f"{self._shown(count['missed'], 'missed', _YELLOW, colour)}  "
                f"slowest {max(line.seconds for line in those):.1f} s"
            )
        took = f"{len(self.lines)} rounds in {time.monotonic() - self.began:.0f} s, seed {self.seed}: "
        bad = len(self.violated)
        verdict = f"{bad} VIOLATED" if bad else "every invariant held"
        return "\n".join([*rows, took + self._colour(_RED if bad else _GREEN, verdict, colour)])

    def _shown(self, number: int, word: str, colour: str, wanted: bool) -> str:
        text = f"{number:>3} {word}"
        return self._colour(colour, text, wanted) if number else text

    def _row(self, line: Line, widths: list[int], *, colour: bool = True) -> str:
        tone = {"ok": _GREEN, "VIOLATED": _RED, "missed": _YELLOW}[line.verdict]
        cells = [_fitted(cell, width) for cell, width in zip(_cells(line), widths, strict=True)]
        cells[3] = self._colour(tone, cells[3], colour)
        return "  ".join(cells).rstrip()

    def _widths(self, lines: list[Line]) -> list[int]:
        room = max(40, shutil.get_terminal_size((140, 24)).columns - 90)  # what the other columns leave
        longest = max(self.widest, *(len(line.point) for line in lines), 0)
        faults = max((len(line.fault) for line in lines), default=0)
        return [
            max(24, longest) if not self.out.isatty() else min(longest, room),
            max(6, faults),
            10,
            8,
            30,
            7,
        ]

    def _colour(self, code: str, text: str, wanted: bool = True) -> str:
        return f"{code}{text}{_PLAIN}" if wanted and self.out.isatty() else text


def _fitted(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else f"{cell[: width - 1]}…"


def _cells(line: Line) -> tuple[str, ...]:
    return (line.point, line.fault, line.store, line.verdict, line.ended, f"{line.seconds:7.2f}")
