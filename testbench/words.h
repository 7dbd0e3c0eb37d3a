// The memory between the two ends of the harness's word streams, and the clock loop that both mains share.
#pragma once

#include <cstdint>

namespace spikeloop {

/// One side each of the input and output stream; harness.sv reaches them through DPI.
struct Words {
    const uint64_t* next_in = nullptr;
    const uint64_t* end_in = nullptr;
    bool more = false;  ///< further input follows after this chunk
    uint64_t* next_out = nullptr;
    uint64_t* end_out = nullptr;
};

extern Words words;

/// Changes whenever a word moved: what the watchdog calls progress.
inline uintptr_t progress() {
    return reinterpret_cast<uintptr_t>(words.next_in) + reinterpret_cast<uintptr_t>(words.next_out);
}

}  // namespace spikeloop
