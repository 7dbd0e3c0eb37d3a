// DPI functions of harness.sv: hand out the next input word, store an output word. Words are 64 bits wide; bits 31:0 hold the
// word and bit 32 the `last` mark, exactly as on the chip's payload, so that nothing has to be converted anywhere.
#include "words.h"

#include "Vtop__Dpi.h"

namespace spikeloop {
Words words;
}

using spikeloop::words;

extern "C" int harness_rx(unsigned long long* word) {
    if (words.next_in != words.end_in) {
        *word = *words.next_in++;
        return 1;
    }
    return words.more ? 2 : 0;
}

extern "C" int harness_tx(unsigned long long word) {
    *words.next_out++ = word;
    return words.next_out != words.end_out;
}
