// The chip behind pins named as in AXI4-Stream, for ordinary cocotb tests: the same pins serve the drivers of streams.py and
// those of cocotbext-axi. The chip itself, with its trace port, is the instance `chip`.
module spikeloop_pins (
    input  logic        clk,
    input  logic        rst,
    input  logic        rx_tvalid,
    output logic        rx_tready,
    input  logic [31:0] rx_tdata,
    input  logic        rx_tlast,
    output logic        tx_tvalid,
    input  logic        tx_tready,
    output logic [31:0] tx_tdata,
    output logic        tx_tlast,
    output logic        busy
);
    spikeloop chip (
        .clk(clk),
        .rst(rst),
        .rx__valid(rx_tvalid),
        .rx__ready(rx_tready),
        .rx__payload({rx_tlast, rx_tdata}),
        .tx__valid(tx_tvalid),
        .tx__ready(tx_tready),
        .tx__payload({tx_tlast, tx_tdata}),
        .busy(busy)
    );
endmodule
