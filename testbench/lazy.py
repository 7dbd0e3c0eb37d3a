"""Rewrites generated Verilog so that the simulator computes an expression only in cycles that use it.

Amaranth's Verilog names every operation by a wire of its own (``assign \\$5 = a * b;``) and selects among them in
``always @*`` blocks. A simulator that evaluates all logic in every clock cycle thus multiplies even where nobody looks
at the product. If all uses of such a wire lie in one branch of one block, its assignment may as well stand there:

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

_NAME = re.compile(r"\\\S+(?=\s)|(?<![\w'$])[A-Za-z_]\w*")
_STATEMENT = re.compile(r"(\\\S+ |\w+)\s*(?:\[.*?\])? = .*;")
_REGISTER = re.compile(r"    (\\\S+ |\w+) <= (\\\S+|\w+) ?;")
_DECLARATION = re.compile(r"  (wire|reg) ((?:signed )?(?:\[[^\]]*\] )?)(\\\S+|\w+) ?;")
_PORT = re.compile(r"  (?:input|output) (?:\[[^\]]*\] )?(\\\S+|\w+) ?;")
_ASSIGN = re.compile(r"  assign (.*?) = (.*);")
_PARTS = re.compile(r"\{? ?(?:(?:\\\S+ |\w+) ?(?:\[[\d:]+\])?(?:, )?)+ ?\}?")
_END = re.compile(r"end(?:case)?\b(?! ?(?:\[.*\] ?)?=)")
_CASE = re.compile(r"case[zx]? \(")
_NO_OPERATION = re.compile(r"\s*if \(\\\$auto\$verilog_backend\S* \) begin end")


@dataclass(eq=False)
class _Block:
    """Statements in order; `parent` is the block around it and `index` the statement of the parent it belongs to."""

    parent: _Block | None = None
    index: int = 0
    nodes: list[_Node] = field(default_factory=list)
    moved: dict[int, list[str | _Block]] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def root(self) -> _Block:
        return self if self.parent is None else self.parent.root


@dataclass(eq=False)
class _Node:
    """A statement: `heads` are its lines of text, each followed by a block, or a single line without any.

    For a ``case``, `heads` are ``case (...)`` and the labels, of which the first has an empty block.
    """

    heads: list[str]
    blocks: list[_Block]
    tail: str = ""


_Place = tuple[_Block, int]


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
        while not _END.match(self.lines[self.at]):
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
        if _CASE.match(line):
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


def _expression(statement: str) -> str:
    """A statement without the name of what it assigns to."""
    match = _STATEMENT.fullmatch(statement)
    return statement[match.end(1) :] if match else statement


def _uses(block: _Block) -> Iterator[tuple[str, _Block, int]]:
    """Each wire that is used below `block`, with the block and the statement that use it."""
    for index, node in enumerate(block.nodes):
        for head in node.heads:
            for wire in _NAME.findall(f"{_expression(head)} "):
                yield wire, block, index
        for inner in node.blocks:
            yield from _uses(inner)


def _targets(block: _Block) -> set[str]:
    """What the statements of a block assign to, without bit ranges."""
    found: set[str] = set()
    for node in block.nodes:
        if node.blocks:
            found.update(*(_targets(inner) for inner in node.blocks))
        else:
            left, equals, _ = node.heads[0].partition(" = ")
            match = _STATEMENT.fullmatch(node.heads[0])
            found.update([match[1].strip()] if match else _NAME.findall(f"{left} ") if equals else [])
    return found


def _write(block: _Block, indent: str, change: Callable[[str], str] = str) -> Iterator[str]:
    """Text of a block; `change` is applied to each of its own statements, not to those moved into it."""
    for index, node in enumerate(block.nodes):
        for moved in block.moved.get(index, ()):
            if isinstance(moved, str):
                yield indent + moved
            else:
                yield from _write(moved, indent)
        if not node.blocks:
            yield indent + change(node.heads[0])
        elif node.tail:
            yield indent + node.heads[0]
            for head, inner in zip(node.heads[1:], node.blocks[1:], strict=True):
                yield f"{indent}  {head} begin"
                yield from _write(inner, indent + "    ", change)
                yield f"{indent}  end"
            yield indent + node.tail
        else:
            for head, inner in zip(node.heads, node.blocks, strict=True):
                yield indent + head
                yield from _write(inner, indent + "  ", change)
                yield f"{indent}end"


def _common(first: _Place, second: _Place) -> _Place | None:
    """Innermost block around two places, and the earlier of the two statements of it that hold them."""
    (a, i), (b, j) = first, second
    while a is not b:
        if a.depth < b.depth:
            (a, i), (b, j) = (b, j), (a, i)
        if a.parent is None:
            return None
        a, i = a.parent, a.index
    return a, min(i, j)


def _assignment(line: str) -> tuple[str, str] | None:
    """Wire and statement of an assignment to one wire or to parts of it."""
    match = _ASSIGN.fullmatch(line)
    if not match or not _PARTS.fullmatch(match[1]):
        return None
    wire, *others = set(_NAME.findall(f"{match[1]} "))
    return None if others else (wire, f"{match[1]} = {match[2]};")


class _Module:
    """One module: what drives each wire, who uses it, and where its assignment may move to."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.values: dict[str, list[str | _Block]] = {}
        self.sites: dict[str, list[_Place | str | None]] = {}  # a statement, another wire, or anything else
        self.blocks: dict[int, tuple[int, _Block]] = {}
        self.owners: dict[_Block, str] = {}
        self.targets: dict[_Block, set[str]] = {}
        self.registers: dict[str, tuple[int, str]] = {}
        self.places: dict[str, _Place | None] = {}
        ports = {match[1] for line in lines if (match := _PORT.fullmatch(line))}
        declared = {match[3] for line in lines if (match := _DECLARATION.fullmatch(line))}
        self.internal = declared - ports
        at = 0
        while at < len(lines):
            line = lines[at]
            if (found := _assignment(line)) and found[0] in self.internal:
                target, statement = found
                self.values.setdefault(target, []).append(statement)
                for wire in _NAME.findall(statement.split(" = ", 1)[1]):
                    self.sites.setdefault(wire, []).append(target)
            elif line == "  always @* begin":
                end = lines.index("  end", at)
                self._add_block(at, end, _Parser(lines[at + 1 : end + 1]).block())
                at = end
            elif not _DECLARATION.fullmatch(line):
                if line == "  always @(posedge clk)" and (match := _REGISTER.fullmatch(lines[at + 1])):
                    self.registers[match[2]] = (at, match[1])
                for wire in _NAME.findall(f"{line} "):
                    self.sites.setdefault(wire, []).append(None)
            at += 1

    def _add_block(self, at: int, end: int, block: _Block) -> None:
        self.blocks[at] = (end, block)
        for wire, inner, index in _uses(block):
            self.sites.setdefault(wire, []).append((inner, index))
        self.targets[block] = _targets(block)
        target, *others = self.targets[block] or {""}
        if not others and target in self.internal:
            self.owners[block] = target
            self.values[target] = [block]

    def _place(self, wire: str) -> _Place | None:
        """Branch and statement before which the wire's assignment can stand; None if it has to stay where it is."""
        if wire not in self.places:
            self.places[wire] = None  # a loop of wires, if there ever was one, would stay
            self.places[wire] = place = self._find(wire)
            if place and (values := self.values.get(wire)):
                block, index = place
                block.moved.setdefault(index, [])[:0] = values
                for value in values:
                    if isinstance(value, _Block):
                        value.parent, value.index = place
        return self.places[wire]

    def _find(self, wire: str) -> _Place | None:
        place: _Place | None = None
        for site in self.sites.get(wire, [None]):
            if isinstance(site, tuple) and (owner := self.owners.get(site[0].root)):
                self._place(owner)
            found = self._place(site) if isinstance(site, str) else site
            place = found if place is None or found is None else _common(place, found)
            if place is None:
                return None
        if place is None or place[0].parent is None or self._reads_target(wire, place[0]):
            return None
        return place

    def _reads_target(self, wire: str, block: _Block) -> bool:
        """Whether a wire is made of what the blocks around its new place work out; there it would see the old value."""
        around: set[str] = set()
        inner: _Block | None = block
        while inner:
            around |= self.targets.get(inner, set())
            inner = inner.parent
        for value in self.values.get(wire, ()):
            if isinstance(value, _Block):
                if wire in around or not around.isdisjoint(name for name, _, _ in _uses(value)):
                    return True
            elif not around.isdisjoint(_NAME.findall(value.split(" = ", 1)[1])):
                return True
        return False

    def _register(self, block: _Block) -> tuple[int, str] | None:
        """The register for which a block only works out the next value, and the line that clocks it."""
        wire = self.owners.get(block, "")
        line, name = self.registers.get(wire, (0, ""))
        if not name or self.sites[wire] != [None] or block.nodes[0].heads != [f"{wire}  = {name};"]:
            return None
        return line, name

    def rewrite(self) -> Iterator[str]:
        for wire in self.values:
            self._place(wire)
        clocked = {block: register for _, block in self.blocks.values() if (register := self._register(block))}
        skip = {line for line, _ in clocked.values()}
        at = 0
        while at < len(self.lines):
            line = self.lines[at]
            if at in self.blocks:
                end, block = self.blocks[at]
                if block in clocked:
                    wire, name = self.owners[block], clocked[block][1]
                    block.nodes[0] = _Node([""], [])
                    yield "  always @(posedge clk) begin"
                    yield from _write(block, "    ", partial(_clocked, wire, name))
                    yield "  end"
                elif block.parent is None:
                    yield line
                    yield from _write(block, "    ")
                    yield "  end"
                at = end
            elif at in skip:
                at += 1
            elif (match := _DECLARATION.fullmatch(line)) and self.places.get(match[3]):
                yield f"  reg {match[2]}{match[3]} ;"
            elif not ((found := _assignment(line)) and self.places.get(found[0])):
                yield line
            at += 1


def _clocked(wire: str, register: str, statement: str) -> str:
    """An assignment to the next value as one to the register."""
    match = _STATEMENT.fullmatch(statement)
    if not match or match[1].strip() != wire:
        return statement
    return register + statement.removeprefix(wire).replace(" = ", " <= ", 1)


def lazy(verilog: str) -> str:
    """The same modules, with assignments moved into the branches that use them.

    Text that does not look like Amaranth's output comes back as it was.
    """
    result: list[str] = []
    module: list[str] | None = None
    for line in verilog.splitlines():
        if line.startswith("module "):
            module = []
        (result if module is None else module).append(line)
        if line == "endmodule" and module is not None:
            try:
                result.extend(list(_Module(module).rewrite()))
            except (IndexError, ValueError):  # not the writer's layout
                result.extend(module)
            module = None
    return "\n".join([*result, *(module or [])]) + "\n"
