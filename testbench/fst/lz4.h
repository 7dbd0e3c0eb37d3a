// The two LZ4 functions that Verilator's FST writer calls, so that waves need no development package of LZ4.
//
// A small greedy encoder of the public LZ4 block format: sequences of literals and matches, the last five bytes always literals,
// no match within the last twelve. Used only with the Verilator of the Python package (see toolchain.py).
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

/// Compresses `size` bytes; `room` must be at least LZ4_compressBound(size), otherwise 0 is returned.
inline int LZ4_compress_default(const char* source, char* target, int size, int room) {
    if (size < 0 || room < LZ4_compressBound(size)) return 0;
    constexpr int MIN_MATCH = 4, LAST_LITERALS = 5, LAST_MATCH = 12, MAX_DISTANCE = 65535, HASH_BITS = 12;
    const auto* in = reinterpret_cast<const uint8_t*>(source);
    auto* out = reinterpret_cast<uint8_t*>(target);
    const auto load = [in](int at) {
        uint32_t value;
        std::memcpy(&value, in + at, sizeof value);
        return value;
    };
    const auto put_length = [&out](int rest) {
        for (; rest >= 255; rest -= 255) *out++ = 255;
        *out++ = static_cast<uint8_t>(rest);
    };
    const auto put_literals = [&](int from, int count, int match_code) {
        *out++ = static_cast<uint8_t>((count < 15 ? count : 15) << 4 | (match_code < 15 ? match_code : 15));
        if (count >= 15) put_length(count - 15);
        if (count) std::memcpy(out, in + from, static_cast<std::size_t>(count));
        out += count;
    };

    std::vector<int> last_seen(1u << HASH_BITS, -1);
    int anchor = 0;  // first byte that was not written yet
    for (int at = 0; at + LAST_MATCH <= size;) {
        int& slot = last_seen[load(at) * 2654435761u >> (32 - HASH_BITS)];
        const int candidate = slot;
        slot = at;
        if (candidate < 0 || at - candidate > MAX_DISTANCE || load(candidate) != load(at)) {
            ++at;
            continue;
        }
        int length = MIN_MATCH;
        while (at + length < size - LAST_LITERALS && in[candidate + length] == in[at + length]) ++length;
        put_literals(anchor, at - anchor, length - MIN_MATCH);
        const int distance = at - candidate;
        *out++ = static_cast<uint8_t>(distance);
        *out++ = static_cast<uint8_t>(distance >> 8);
        if (length - MIN_MATCH >= 15) put_length(length - MIN_MATCH - 15);
        at += length;
        anchor = at;
    }
    put_literals(anchor, size - anchor, 0);
    return static_cast<int>(reinterpret_cast<char*>(out) - target);
}
