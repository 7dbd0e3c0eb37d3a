// Cells of iCE40 netlists in place of Yosys' own models: see testbench/netlist.py.

// Yosys' model goes through three levels of selection, which take Verilator and the compiler twice as long.
module SB_LUT4 (output O, input I0, I1, I2, I3);
    parameter [15:0] LUT_INIT = 0;
    assign O = LUT_INIT[{I3, I2, I1, I0}];
endmodule
