// The reference that the in-the-loop simulator is measured against: the same verilated harness, clocked by a plain C++ loop.
//
// usage: bare INPUT OUTPUT   -- files of 64-bit words in the machine's byte order; prints cycles, seconds, words and a checksum
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#include "words.h"

namespace {

using spikeloop::words;

std::vector<uint64_t> read_words(const char* path) {
    std::vector<uint64_t> result;
    std::FILE* file = std::fopen(path, "rb");
    if (!file) return result;
    uint64_t block[4096];
    for (std::size_t count; (count = std::fread(block, sizeof(uint64_t), 4096, file)) > 0;) {
        result.insert(result.end(), block, block + count);
    }
    std::fclose(file);
    return result;
}

void clock(Vtop& top) {
    top.clk = 1;
    top.eval();
    top.clk = 0;
    top.eval();
}

uint64_t checksum(const std::vector<uint64_t>& values) {  // FNV-1a over words
    uint64_t hash = 0xcbf29ce484222325u;
    for (const uint64_t value : values) hash = (hash ^ value) * 0x100000001b3u;
    return hash;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s INPUT OUTPUT\n", argv[0]);
        return 2;
    }
    const std::vector<uint64_t> input = read_words(argv[1]);
    std::vector<uint64_t> chunk(1u << 20), output;

    auto top = std::make_unique<Vtop>();
    top->rst = 1;
    for (int i = 0; i < 4; ++i) clock(*top);
    top->rst = 0;

    words.next_in = input.data();
    words.end_in = input.data() + input.size();
    const auto start = std::chrono::steady_clock::now();
    do {
        words.next_out = chunk.data();
        words.end_out = chunk.data() + chunk.size();
        top->go = !top->go;
        while (top->done != top->go) clock(*top);
        output.insert(output.end(), chunk.data(), words.next_out);
    } while (words.next_out == words.end_out);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

    std::FILE* file = std::fopen(argv[2], "wb");
    if (!file || std::fwrite(output.data(), sizeof(uint64_t), output.size(), file) != output.size() || std::fclose(file) != 0) {
        std::perror(argv[2]);
        return 1;
    }
    std::printf("{\"cycles\": %" PRIu64 ", \"seconds\": %.9f, \"words\": %zu, \"checksum\": \"%016" PRIx64 "\"}\n",
                static_cast<uint64_t>(top->cycles), seconds.count(), output.size(), checksum(output));
    return 0;
}
