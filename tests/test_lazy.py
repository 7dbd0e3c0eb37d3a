"""The rewriting of Verilog for the fast build: what moves, what stays. Lockstep shows that both texts do the same."""

from __future__ import annotations

import re

import pytest

from rtl.config import ChipConfig
from rtl.verilog import generate
from testbench.lazy import lazy


def module(declarations: str, body: str, ports: str = "") -> str:
    """A module laid out as Amaranth's back end does; `ports` are inputs."""
    names = ports.split()
    lines = [f"module t({', '.join(names)});", *(f"  input {name};" for name in names)]
    lines += [f"  {line.strip()}" for line in declarations.strip().split("\n")]
    lines += [f"  {line}" if line else line for line in body.strip("\n").split("\n")]
    return "\n".join([*lines, "endmodule"]) + "\n"


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def moved(text: str, wire: str) -> bool:
    """Whether a wire's assignment left its place."""
    result = lazy(text)
    assert (f"  assign {wire} " in result) != (
        re.search(rf"^ +{re.escape(wire)}  ?(\[.*\] )?= ", result, re.M) is not None
    )
    return f"  assign {wire} " not in result


PRODUCT = r"""
assign \$5  = a * b;
always @* begin
  x = 4'h0;
  if (c) begin
    x = \$5 ;
  end
end
"""
WIRES = "wire [3:0] \\$5 ;\nwire a;\nwire b;\nwire c;\nwire d;\nreg [3:0] x;\nwire [3:0] y;\n"


def test_a_product_moves_into_the_only_branch_that_uses_it() -> None:
    result = lazy(module(WIRES, PRODUCT))
    assert "  reg [3:0] \\$5 ;\n" in result
    assert "assign" not in result
    assert r"x = 4'h0; if (c) begin \$5 = a * b; x = \$5 ; end" in squeezed(result)


def test_what_a_product_is_made_of_moves_with_it_in_the_right_order() -> None:
    body = "assign \\$4  = a + 1'h1;\nassign \\$5  = \\$4  * b;" + PRODUCT.replace("assign \\$5  = a * b;\n", "")
    for text in (body, "\n".join([*body.split("\n")[1:2], body.split("\n")[0], *body.split("\n")[2:]])):
        result = squeezed(lazy(module(WIRES + "wire \\$4 ;\n", text)))
        assert r"if (c) begin \$4 = a + 1'h1; \$5 = \$4 * b; x = \$5 ; end" in result


def test_a_signed_wire_stays_signed() -> None:
    result = lazy(module(WIRES.replace("wire [3:0] \\$5 ;", "wire signed [3:0] \\$5 ;"), PRODUCT))
    assert "  reg signed [3:0] \\$5 ;\n" in result


def test_used_in_two_branches_it_moves_before_both() -> None:
    body = r"""
assign \$5  = a * b;
always @* begin
  x = 4'h0;
  if (d) begin
    if (c) begin
      x = \$5 ;
    end else begin
      x = \$5 [3:1];
    end
  end
end
"""
    assert r"if (d) begin \$5 = a * b; if (c) begin x = \$5 ; end else begin" in squeezed(lazy(module(WIRES, body)))


@pytest.mark.parametrize(
    "more",
    [
        "always @* begin\n  x2 = \\$5 ;\nend",  # a second block
        "assign y = \\$5 ;",  # a wire that is looked at always
        "always @(posedge clk)\n  r <= \\$5 ;",
        "always @(posedge clk) begin\n  if (c)\n    memory[a] <= \\$5 ;\nend",
        "always @(posedge clk) begin\n  if (d) begin\n    r <= memory[\\$5 ];\n  end\nend",
        "\\t.inner  inner (\n  .port(\\$5 )\n);",
        "assign { y[0], x2 } = \\$5 ;",
    ],
    ids=["block", "assign", "register", "memory write", "memory read", "instance", "two targets"],
)
def test_a_wire_with_another_use_stays(more: str) -> None:
    assert not moved(module(WIRES + "reg [3:0] x2;\nreg r = 1'h0;\n", PRODUCT + more, "clk"), r"\$5 ")


def test_a_port_stays() -> None:
    text = module(WIRES + "output \\$5 ;\n", PRODUCT)
    assert "  assign \\$5  = a * b;" in lazy(text)


def test_a_wire_in_a_later_condition_of_the_same_chain_stays_outside() -> None:
    body = r"""
assign \$5  = a * b;
always @* begin
  x = 4'h0;
  if (c) begin
    x = \$5 ;
  end else if (\$5 [0]) begin
    x = 4'h1;
  end
end
"""
    assert not moved(module(WIRES, body), r"\$5 ")


def test_a_wire_in_the_selector_of_a_case_stays_outside() -> None:
    body = PRODUCT.replace("if (c) begin", "casez (\\$5 )\n    4'h1:").replace(
        "    x = \\$5 ;\n  end", "      x = \\$5 ;\n  endcase"
    )
    assert not moved(module(WIRES, body), r"\$5 ")


def test_an_arm_of_a_case_is_a_branch() -> None:
    body = r"""
assign \$5  = a * b;
always @* begin
  x = 4'h0;
  (* full_case = 32'd1 *)
  casez (a)
    1'h0,
    1'h1:
        x = \$5 ;
    default:
        /* empty */;
  endcase
end
"""
    result = squeezed(lazy(module(WIRES, body)))
    assert r"1'h0, 1'h1: begin \$5 = a * b; x = \$5 ; end default: begin" in result


def test_names_that_begin_alike_are_different() -> None:
    declarations = WIRES + "wire \\$51 ;\nwire ab;\nwire abc;\n"
    extra = "assign \\$51  = a;\nassign y = \\$51 ;\n"
    assert moved(module(declarations, extra + PRODUCT), r"\$5 ")
    body = PRODUCT.replace("\\$5 ", "ab ").replace("ab  =", "ab =")
    assert moved(module(declarations, "assign abc = a;\nassign y = abc;\n" + body), "ab")
    assert not moved(module(declarations, "assign y = ab;\n" + body), "ab")


def test_parts_of_a_wire_move_together_or_not_at_all() -> None:
    body = PRODUCT.replace("assign \\$5  = a * b;", "assign \\$5 [3:2] = a * b;\nassign \\$5 [1:0] = c + d;")
    assert r"begin \$5 [3:2] = a * b; \$5 [1:0] = c + d; x = \$5 ; end" in squeezed(lazy(module(WIRES, body)))
    kept = lazy(module(WIRES, body + "assign y = \\$5 [0];"))
    assert kept.count("  assign \\$5 [") == 2


def test_parts_that_read_each_other_stay() -> None:
    body = PRODUCT.replace("assign \\$5  = a * b;", "assign \\$5 [1] = \\$5 [0];\nassign \\$5 [0] = a;")
    assert lazy(module(WIRES, body)).count("  assign \\$5 [") == 2


INNER = r"""
always @* begin
  \$7  = 4'h1;
  if (a) begin
    \$7  = \$5 ;
  end
end
"""


def test_a_block_moves_into_the_branch_that_uses_its_wire_and_takes_products_along() -> None:
    body = "assign \\$5  = a * b;" + INNER + PRODUCT.replace("assign \\$5  = a * b;\n", "").replace("\\$5", "\\$7")
    result = squeezed(lazy(module(WIRES + "reg [3:0] \\$7 ;\n", body)))
    assert result.count("always") == 1
    assert r"if (c) begin \$7 = 4'h1; if (a) begin \$5 = a * b; \$7 = \$5 ; end x = \$7 ; end" in result


# ---- registers ------------------------------------------------------------------------------------------------------

REGISTER = r"""
always @* begin
  \$9  = r;
  if (c) begin
    \$9 [1:0] = \$5 [1:0];
  end
  if (rst) begin
    \$9  = 4'h7;
  end
end
always @(posedge clk)
  r <= \$9 ;
"""
STATE = WIRES + "reg [3:0] \\$9 ;\nreg [3:0] r = 4'h7;\n"


def test_a_next_value_becomes_part_of_its_register() -> None:
    result = squeezed(lazy(module(STATE, "assign \\$5  = a * b;" + REGISTER, "clk rst")))
    assert "always @*" not in result
    assert r"if (c) begin \$5 = a * b; r [1:0] <= \$5 [1:0]; end if (rst) begin r <= 4'h7; end" in result


def test_parts_of_a_next_value_with_a_plain_name_are_not_lost() -> None:
    body = "assign \\$5  = a * b;" + REGISTER.replace("\\$9 [1:0] =", "nine[1:0] =").replace("\\$9  =", "nine  =")
    body = body.replace("\\$9 ", "nine")
    result = squeezed(lazy(module(STATE.replace("\\$9 ", "nine"), body, "clk rst")))
    assert "r[1:0] <= " in result or "nine[1:0] = " in result.split("always @(posedge clk)")[0]


@pytest.mark.parametrize(
    "body",
    [
        REGISTER + "assign y = \\$9 ;",  # somebody else looks at the next value
        REGISTER.replace("\\$9  = r;", "\\$9  = 4'h0;"),  # does not keep its value by itself
        REGISTER + "always @(posedge clk)\n  r2 <= \\$9 ;",
        REGISTER.replace("\\$9 [1:0] = \\$5 [1:0];", "\\$9 [1:0] = \\$9 [3:2];"),
    ],
    ids=["used", "no hold", "two registers", "reads itself"],
)
def test_other_next_values_stay_beside_their_register(body: str) -> None:
    result = lazy(module(STATE + "reg [3:0] r2 = 4'h0;\n", "assign \\$5  = a * b;" + body, "clk rst"))
    assert "  always @* begin\n" in result
    assert "    r <= \\$9 ;\n" in result


# ---- what must not happen -------------------------------------------------------------------------------------------


def test_a_block_that_only_reads_itself_stays() -> None:
    body = "always @* begin\n  x = 4'h0;\n  if (c) begin\n    x = x + 4'h1;\n  end\nend"
    assert "  always @* begin\n" in lazy(module(WIRES, body))


def test_a_wire_made_of_the_blocks_own_target_stays() -> None:
    """Bits may depend on each other without a loop; inside the block the old ones would be read."""
    body = PRODUCT.replace("a * b", "{ x[0], 1'h1 }").replace("    x = \\$5 ;", "    x[1] = \\$5 [1];\n    x[0] = d;")
    assert not moved(module(WIRES, body), r"\$5 ")


def test_a_block_with_two_targets_never_moves() -> None:
    body = INNER.replace("if (a) begin\n", "if (a) begin\n    { y2, z2 } = 2'h3;\n")
    body += PRODUCT.replace("assign \\$5  = a * b;\n", "").replace("\\$5", "\\$7")
    result = lazy(module(WIRES + "reg [3:0] \\$7 ;\nreg y2;\nreg z2;\n", body))
    assert result.count("always @* begin") == 2


def test_foreign_text_passes_unchanged() -> None:
    for text in (
        "// nothing\n",
        "`timescale 1ns/1ps\nmodule a(input b, output reg c);\n  always @(b) c = b;\nendmodule\n",
        "module a(input b, output reg c);\n  always @* begin\n    if (b) c = 1;\n    else c = 0;\n  end\nendmodule\n",
        "module cut_off(\n  input a\n",
    ):
        assert lazy(text) == text


def test_a_real_chip_keeps_its_modules_and_every_name() -> None:
    text = generate(ChipConfig((5, 6, 3), lanes=4, trace=True))
    result = lazy(text)
    assert result == lazy(text)
    assert re.findall(r"^module .*", result, re.M) == re.findall(r"^module .*", text, re.M)
    assert result.count("assign ") < 0.7 * text.count("assign ")
    declared = r"^  (?:wire|reg)(?: signed)?(?: \[[^\]]*\])? (\\\S+|\w+)"
    assert re.findall(declared, result, re.M) == re.findall(declared, text, re.M)


def test_signals_named_like_keywords_are_signals() -> None:
    body = PRODUCT.replace("    x = ", "    x[0] = ended;\n    x = ").replace("x", "ending").replace("\\$5", "cased")
    declarations = WIRES.replace("x;", "ending;").replace("\\$5 ", "cased") + "wire ended;\n"
    result = lazy(module(declarations, body))
    assert "cased  = a * b;" in squeezed(result) or "cased = a * b;" in squeezed(result)
    assert result.count("ending") == 4
