// Cells of ECP5 netlists in place of Yosys' own models, or where there are none: see testbench/netlist.py.

// Yosys' model goes through three levels of selection, which take Verilator and the compiler twice as long.
module LUT4 (output Z, input A, B, C, D);
    parameter [15:0] INIT = 0;
    assign Z = INIT[{D, C, B, A}];
endmodule

// Block RAM without output register and without cascading: two ports of up to 18 bits, or one that writes and one that reads
// 36 (A the low half, B the high one). Clock and reset are those of synth_ecp5's mapping; other options are refused.
//
// Memory bits are counted as in a RAM 18 bits wide; ports of 1, 2 or 4 bits cannot reach bits 8 and 17 of a word.
module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18;
    parameter DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG";
    parameter REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";
    parameter CSDECODE_A = "0b000";
    parameter CSDECODE_B = "0b000";
    parameter CLKAMUX = "CLKA";
    parameter CLKBMUX = "CLKB";
    parameter WRITEMODE_A = "NORMAL";
    parameter WRITEMODE_B = "NORMAL";
    parameter GSR = "ENABLED";
    parameter INIT_DATA = "STATIC";
    parameter [319:0]
        INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0,
        INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0,
        INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0, INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0,
        INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0,
        INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
        INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
        INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0,
        INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

    generate
        if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB" || CSDECODE_A != "0b000"
                || CSDECODE_B != "0b000")
            $error("DP16KD: a mode that the model does not have");
    endgenerate
    always @(posedge CLKA) if (RESETMODE != "SYNC" && (RSTA || RSTB)) $fatal(1, "DP16KD: the model has no asynchronous reset");

    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] dia = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [17:0] dib = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
    reg [17:0] doa = 0, dob = 0;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = doa;
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} = dob;

    reg [17:0] mem [0:1023];
    wire [64*320-1:0] init = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
        INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
        INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
        INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
        INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00
    };
    integer i;
    initial for (i = 0; i < 1024; i = i + 1) mem[i] = init[i / 16 * 320 + i % 16 * 20 +: 18];

    // Place of the lowest bit of a narrow port in its word, the bits of a write, and what a port reads of a word.
    function [4:0] place(input integer width, input [3:0] address);
        place = width >= 18 ? 5'd0 : (address[3] ? 5'd9 : 5'd0) + (width == 9 ? 5'd0 : {2'd0, address[2:0]} & ~(5'(width) - 5'd1));
    endfunction
    function [17:0] field(input integer width);
        field = width >= 18 ? 18'h3ffff : (18'd1 << width) - 18'd1;
    endfunction
    function [17:0] mask(input integer width, input [3:0] address);
        mask = width >= 18 ? {{9{address[1]}}, {9{address[0]}}} : field(width) << place(width, address);
    endfunction
    function [17:0] taken(input integer width, input [3:0] address, input [17:0] word);
        taken = word >> place(width, address) & field(width);
    endfunction

    // A port of 36 bits is both halves at once: B's half comes along with A when writing, A's half with B when reading.
    wire [9:0] worda = {ada[13:5], DATA_WIDTH_A == 36 ? 1'b0 : ada[4]};
    wire [9:0] wordb = {adb[13:5], DATA_WIDTH_B == 36 ? 1'b1 : adb[4]};
    wire [17:0] maska = mask(DATA_WIDTH_A, ada[3:0]);
    wire [17:0] maskb = mask(DATA_WIDTH_B, adb[3:0]);
    wire [17:0] olda = mem[worda];
    wire [17:0] oldb = mem[wordb];
    wire [17:0] newa = olda & ~maska | dia << place(DATA_WIDTH_A, ada[3:0]) & maska;
    wire [17:0] newb = oldb & ~maskb | dib << place(DATA_WIDTH_B, adb[3:0]) & maskb;
    wire [17:0] high = {{9{ADA3}}, {9{ADA2}}};

    always @(posedge CLKA)
        if (CEA) begin
            if (WEA && !(RSTA && DATA_WIDTH_A != 36)) begin
                mem[worda] <= newa;
                if (DATA_WIDTH_A == 36) mem[worda | 10'd1] <= mem[worda | 10'd1] & ~high | dib & high;
            end
        end
    always @(posedge CLKA)
        if (DATA_WIDTH_B == 36) begin
            if (RSTB) doa <= 0;
            else if (CEB) doa <= mem[wordb & ~10'd1];
        end else if (RSTA) doa <= 0;
        else if (CEA) begin
            if (!WEA || WRITEMODE_A == "READBEFOREWRITE") doa <= taken(DATA_WIDTH_A, ada[3:0], olda);
            else if (WRITEMODE_A == "WRITETHROUGH") doa <= taken(DATA_WIDTH_A, ada[3:0], newa);
        end
    always @(posedge CLKB) begin
        if (CEB && WEB && !RSTB) mem[wordb] <= newb;
        if (RSTB) dob <= 0;
        else if (CEB) begin
            if (!WEB || WRITEMODE_B == "READBEFOREWRITE") dob <= taken(DATA_WIDTH_B, adb[3:0], oldb);
            else if (WRITEMODE_B == "WRITETHROUGH") dob <= taken(DATA_WIDTH_B, adb[3:0], newb);
        end
    end
endmodule

// Multiplier without registers.
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
    output P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    wire signed [18:0] a = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire signed [18:0] b = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire signed [37:0] p = a * b;
    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
        P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = p[35:0];
endmodule
