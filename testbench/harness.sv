// The chip between two word streams that C++ feeds and drains, so that no Python runs per clock cycle.
//
// Handshake with the simulation: `go` is toggled to start, `done` follows it to say "finished or in need of service"; the
// clock only runs while the two differ (`simulator.cpp`, `bare.cpp`). One burst ends when
//   * the input words are used up, the chip is idle and its output drained (two clock cycles in a row, so that a chip whose
//     `busy` rises one cycle after a word went in is not cut off),
//   * this chunk of input is used up but more will follow, or
//   * the memory for output words is full: `tx_ready` is low then, so no word is lost while the clock stands still.
// A burst that was cut short goes on with the next toggle of `go`; the chip cannot notice.

module spikeloop_harness (
    input  logic        clk,
    input  logic        rst,
    input  logic        go,
    output logic        done,
    output logic [63:0] cycles
);
    // words.cpp. Results of harness_rx: 0 no word left, 1 a word, 2 no word left in this chunk but more to come.
    // Result of harness_tx: 1 if there is room for another word.
    import "DPI-C" function int harness_rx(output longint unsigned word);
    import "DPI-C" function int harness_tx(input longint unsigned word);

    logic        rx_valid, rx_ready, tx_valid, tx_ready, busy;
    logic [32:0] rx_payload, tx_payload;

    logic running;    // a burst is under way
    logic exhausted;  // the input of this burst is used up
    logic was_quiet;  // nothing moved in the last clock cycle either
    logic quiet;
    assign quiet = exhausted && !rx_valid && !tx_valid && !busy;

    // The chip uses its reset in combinational logic. A top-level input there would be evaluated at every call of eval(), also
    // at falling edges; behind a register it costs nothing (measured: 16 % of the time of a small chip).
    logic chip_rst;
    always_ff @(posedge clk) chip_rst <= rst;

    spikeloop chip (
        .clk(clk),
        .rst(chip_rst),
        .rx__valid(rx_valid),
        .rx__ready(rx_ready),
        .rx__payload(rx_payload),
        .tx__valid(tx_valid),
        .tx__ready(tx_ready),
        .tx__payload(tx_payload),
        .busy(busy)
    );

    longint unsigned word;
    int              fetched;

    always_ff @(posedge clk) begin
        cycles <= cycles + 64'd1;
        if (rst) begin
            cycles    <= '0;
            done      <= go;
            running   <= 1'b0;
            exhausted <= 1'b0;
            was_quiet <= 1'b0;
            rx_valid  <= 1'b0;
            tx_ready  <= 1'b0;
        end else if (chip_rst) begin
            cycles <= '0;
        end else if (!running) begin
            running   <= 1'b1;
            exhausted <= 1'b0;
            was_quiet <= 1'b0;
            tx_ready  <= 1'b1;
            if (rx_ready) rx_valid <= 1'b0;
        end else begin
            if (rx_valid && rx_ready) rx_valid <= 1'b0;
            if ((!rx_valid || rx_ready) && !exhausted) begin
                fetched = harness_rx(word);
                if (fetched == 1) begin
                    rx_valid   <= 1'b1;
                    rx_payload <= word[32:0];
                end else begin
                    exhausted <= 1'b1;
                    if (fetched == 2) begin
                        running  <= 1'b0;
                        tx_ready <= 1'b0;
                        done     <= go;
                    end
                end
            end
            if (tx_valid && tx_ready && harness_tx({31'b0, tx_payload}) == 0) begin
                running  <= 1'b0;
                tx_ready <= 1'b0;
                done     <= go;
            end
            was_quiet <= quiet;
            if (quiet && was_quiet) begin
                running  <= 1'b0;
                tx_ready <= 1'b0;
                done     <= go;
            end
        end
    end
endmodule
