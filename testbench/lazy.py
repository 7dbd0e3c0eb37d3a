"""Rewrites generated Verilog so that the simulator computes an expression only in cycles that use it.

Amaranth's Verilog names every operation by a wire of its own (``assign \\$5 = a * b;``) and selects among them in ``always @*``
blocks. A simulator that evaluates all logic in every clock cycle thus multiplies even where nobody looks at the product. If all
uses of such a wire lie in one branch of one block, its assignment may as well stand in that branch:

    assign \\$5 = a * b;                            always @* begin
    always @* begin                                  x = 0;
      x = 0;                              -->        if (valid) begin
      if (valid) begin                                 \\$5 = a * b;
        x = \\$5 ;                                      x = \\$5 ;
    ...                                              ...

Nothing else changes, least of all what the registers hold; the co-simulation tests run both texts. Only the simulator's
fast build uses it: the Verilog for boards, and the debug build, are what Amaranth wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_WIRE = re.compile(r"\\\$\d+(?=\s)")
_DECLARATION = re.compile(r"  wire ((?:signed )?(?:\[[^\]]*\] )?)(\\\$\d+) ;")
_ASSIGN = re.compile(r"  assign (\\\$\d+)  = (.*);")
_NO_OPERATION = re.compile(r"\s*if \(\\\$auto\$verilog_backend\S* \) begin end")


@dataclass(eq=False)
class _Block:
    """Statements in order; `parent` is the block around it and `index` the statement of the parent it belongs to."""

    parent: _Block | None = None
    index: int = 0
    nodes: list[_Node] = field(default_factory=list)
    moved: dict[int, list[str]] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1


@dataclass(eq=False)
class _Node:
    """A statement: `heads` are its lines of text, each followed by a block, or a single line without any.

    For a ``case``, `heads` are ``case (...)`` and the labels, of which the first has an empty block.
    """

    heads: list[str]
    blocks: list[_Block]
    tail: str = ""


class _Parser:
    """Reads the statements of one ``always @*`` block; the writer's layout is regular, one head or statement a line."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [line.strip() for line in lines if not _NO_OPERATION.fullmatch(line)]
        self.at = 0

    def block(self, parent: _Block | None = None) -> _Block:
        """Statements up to (not including) the ``end`` that closes them."""
        block = _Block(parent, len(parent.nodes) if parent else 0)
        self._fill(block)
        return block

    def _fill(self, block: _Block) -> None:
        while not self.lines[self.at].startswith("end"):
            if self.lines[self.at] == "begin":  # a mere group: its statements stand for themselves
                self.at += 1
                self._fill(block)
                self.at += 1
            else:
                block.nodes.append(self.node(block))

    def node(self, block: _Block) -> _Node:
        line = self._next()
        if line.startswith("(*"):  # attribute of the case that follows
            node = self.node(block)
            node.heads[0] = f"{line} {node.heads[0]}"
            return node
        if line.startswith("if "):
            node = _Node([line], [self.block(block)])
            while (line := self._next()) != "end":
                node.heads.append(line.removeprefix("end "))
                node.blocks.append(self.block(block))
            return node
        if line.startswith("case"):
            node = _Node([line], [_Block(block)], "endcase")
            while (label := self._next()) != "endcase":
                while not label.endswith(":"):
                    label += " " + self._next()
                node.heads.append(label)
                node.blocks.append(self._arm(block))
            return node
        return _Node([line], [])

    def _arm(self, parent: _Block) -> _Block:
        if self.lines[self.at] == "begin":
            self.at += 1
            arm = self.block(parent)
            self.at += 1
            return arm
        arm = _Block(parent, len(parent.nodes))
        arm.nodes.append(self.node(arm))
        return arm

    def _next(self) -> str:
        self.at += 1
        return self.lines[self.at - 1]


def _uses(block: _Block) -> Iterator[tuple[str, _Block, int]]:
    """Each wire that is used below `block`, with the block and the statement that use it."""
    for index, node in enumerate(block.nodes):
        for head in node.heads:
            for wire in _WIRE.findall(f"{head} "):
                yield wire, block, index
        for inner in node.blocks:
            yield from _uses(inner)


def _write(block: _Block, indent: str) -> Iterator[str]:
    for index, node in enumerate(block.nodes):
        yield from (f"{indent}{text}" for text in block.moved.get(index, ()))
        if not node.blocks:
            yield indent + node.heads[0]
        elif node.tail:
            yield indent + node.heads[0]
            for head, inner in zip(node.heads[1:], node.blocks[1:], strict=True):
                yield f"{indent}  {head} begin"
                yield from _write(inner, indent + "    ")
                yield f"{indent}  end"
            yield indent + node.tail
        else:
            for head, inner in zip(node.heads, node.blocks, strict=True):
                yield indent + head
                yield from _write(inner, indent + "  ")
                yield f"{indent}end"


def _common(first: tuple[_Block, int], second: tuple[_Block, int]) -> tuple[_Block, int] | None:
    """Innermost block around two places, and the earlier of the two statements of it that hold them."""
    (a, i), (b, j) = first, second
    while a is not b:
        if a.depth < b.depth or (a.depth == b.depth and b.parent is not None and a.parent is None):
            (a, i), (b, j) = (b, j), (a, i)
        if a.parent is None:
            return None
        a, i = a.parent, a.index
    return a, min(i, j)


class _Module:
    """One module's wires and blocks, and where each wire's assignment may move to."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.values: dict[str, str] = {}
        self.blocks: dict[int, tuple[int, _Block]] = {}
        self.places: dict[str, tuple[_Block, int] | None] = {}
        self.sites: dict[str, list[tuple[_Block, int] | str | None]] = {}
        at = 0
        while at < len(lines):
            line = lines[at]
            if match := _ASSIGN.fullmatch(line):
                self.values[match[1]] = match[2]
                for wire in _WIRE.findall(f"{match[2]} "):
                    self.sites.setdefault(wire, []).append(match[1])
            elif line == "  always @* begin":
                end = lines.index("  end", at)
                block = _Parser(lines[at + 1 : end + 1]).block()
                self.blocks[at] = (end, block)
                for wire, inner, index in _uses(block):
                    self.sites.setdefault(wire, []).append((inner, index))
                at = end
            elif not _DECLARATION.fullmatch(line):
                for wire in _WIRE.findall(f"{line} "):
                    self.sites.setdefault(wire, []).append(None)
            at += 1

    def place(self, wire: str) -> tuple[_Block, int] | None:
        """Branch and statement before which the wire's assignment can stand; None if it has to stay where it is."""
        if wire not in self.places:
            self.places[wire] = None  # a loop of wires, if there ever was one, would stay
            self.places[wire] = place = self._find(wire)
            if place:
                block, index = place
                block.moved.setdefault(index, []).insert(0, f"{wire}  = {self.values[wire]};")
        return self.places[wire]

    def _find(self, wire: str) -> tuple[_Block, int] | None:
        place: tuple[_Block, int] | None = None
        for site in self.sites.get(wire, [None]):
            found = self.place(site) if isinstance(site, str) else site
            place = found if place is None or found is None else _common(place, found)
            if found is None or place is None:
                return None
        return place if place and place[0].parent is not None else None

    def rewrite(self) -> Iterator[str]:
        for wire in self.values:
            self.place(wire)
        at = 0
        while at < len(self.lines):
            line = self.lines[at]
            if at in self.blocks:
                end, block = self.blocks[at]
                yield line
                yield from _write(block, "    ")
                at = end
            if (match := _DECLARATION.fullmatch(line)) and self.places.get(match[2]):
                yield f"  reg {match[1]}{match[2]} ;"
            elif not ((match := _ASSIGN.fullmatch(line)) and self.places.get(match[1])):
                yield self.lines[at]
            at += 1


def lazy(verilog: str) -> str:
    """The same modules with assignments moved into the branches that use them.

    Text that does not look like Amaranth's output comes back as it was.
    """
    result: list[str] = []
    module: list[str] | None = None
    for line in verilog.splitlines():
        if line.startswith("module "):
            module = []
        (result if module is None else module).append(line)
        if line == "endmodule" and module is not None:
            result.extend(_Module(module).rewrite())
            module = None
    return "\n".join([*result, *(module or [])]) + "\n"
