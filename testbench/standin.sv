// A stand-in with the chip's ports: answers every word by its complement after some delay, `last` unchanged.
//
// It lets the harness, the simulator and the benches be tested (and their overhead be measured) without the chip. A FIFO of
// eight words makes `busy`, back-pressure and a delayed answer visible; a word with bits 31:16 = 16'hDEAD and bits 15:0 = n keeps
// the chip busy for 65536 * n clock cycles before it is answered, 16'hDEADFFFF for ever.
module spikeloop (
    input  logic        clk,
    input  logic        rst,
    input  logic        rx__valid,
    output logic        rx__ready,
    input  logic [32:0] rx__payload,
    output logic        tx__valid,
    input  logic        tx__ready,
    output logic [32:0] tx__payload,
    output logic        busy
);
    logic [32:0] fifo [0:7];
    logic [3:0]  level;
    logic [2:0]  head, tail;
    logic [31:0] wait_cycles;
    logic        started;

    assign rx__ready   = level != 4'd8;
    assign busy        = level != 4'd0;
    assign tx__valid   = level != 4'd0 && started && wait_cycles == 32'd0;
    assign tx__payload = {fifo[tail][32], ~fifo[tail][31:0]};

    wire put = rx__valid && rx__ready;
    wire get = tx__valid && tx__ready;

    always_ff @(posedge clk) begin
        if (put) begin
            fifo[head] <= rx__payload;
            head       <= head + 3'd1;
        end
        if (level != 4'd0 && !started) begin
            started     <= 1'b1;
            wait_cycles <= fifo[tail][31:16] == 16'hDEAD ? {fifo[tail][15:0], 16'h0} : {30'd0, fifo[tail][1:0]};
        end else if (wait_cycles != 32'd0 && fifo[tail][31:0] != 32'hDEADFFFF) begin
            wait_cycles <= wait_cycles - 32'd1;
        end
        if (get) begin
            tail    <= tail + 3'd1;
            started <= 1'b0;
        end
        level <= level + {3'd0, put} - {3'd0, get};
        if (rst) begin
            level       <= '0;
            head        <= '0;
            tail        <= '0;
            started     <= 1'b0;
            wait_cycles <= '0;
        end
    end
endmodule
