// Simulation main of the in-the-loop simulator.
//
// It is an ordinary VPI main loop (evaluate until settled, call the callbacks of each region, advance to the next deadline) with
// one addition: while the chip works (`go` != `done`, see harness.sv) and no VPI callback is due, it toggles the clock here and
// only evaluates. cocotb, its scheduler and Python are entered again when `done` has followed `go`, so the simulated chip runs at
// the speed of a bare Verilator loop.
//
// The parent process shares one memory region with this one (file descriptor in SPIKELOOP_REGION): a header of 64-bit fields,
// described in `region.py`, then the input and the output words. While the clock runs, this main publishes the cycle count there
// (the parent's sign of life), stops with a message if the chip stays busy for too long without moving a word, and exits when the
// parent is gone (hang-up on the socket SPIKELOOP_CONTROL).

#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_vpi.h"
#include "words.h"

#if VM_TRACE_FST
#include "verilated_fst_c.h"
#endif
#if VM_COVERAGE
#include "verilated_cov.h"
#endif

// Registers cocotb's start-up callbacks; from libcocotbvpi_verilator.
extern "C" void vlog_startup_routines_bootstrap();

namespace {

using spikeloop::words;

constexpr uint64_t HALF_PERIOD = 5;             // time units (ns): waves show a 100 MHz clock
constexpr uint64_t CHECK_INTERVAL = 1u << 19;   // clock cycles between two looks at watchdog and parent
constexpr bool TIMED = VM_TRACE;                // keep the time at every clock edge: waves and messages need it
constexpr uint64_t NEVER = ~uint64_t{0};

// Header of the shared region; the same tables are in region.py.
enum Field : std::size_t {
    IN_COUNT = 0, MORE, IN_OFFSET, OUT_OFFSET, OUT_CAPACITY, WATCHDOG, SPIN, COMMAND, PARENT_WAITS,
    IN_USED = 16, OUT_COUNT, REASON, CYCLES, ANSWER, ASLEEP
};
enum Reason : uint64_t { IDLE, WORKING, FINISHED, INPUT_WANTED, OUTPUT_FULL, STUCK };

class Simulation {
public:
    Simulation(int argc, char** argv) {
        Verilated::commandArgs(argc, argv);
        Verilated::fatalOnVpiError(false);  // cocotb probes for objects that need not exist
        context().time(0);
        map_region();
        const char* control = std::getenv("SPIKELOOP_CONTROL");
        control_ = control ? std::atoi(control) : -1;
        top_ = std::make_unique<Vtop>("");
        open_trace(argc, argv);
        vlog_startup_routines_bootstrap();
        VerilatedVpi::callCbs(cbStartOfSimulation);
        settle();
    }

    int run() {
        while (!Verilated::gotFinish()) {
            evaluate();
            VerilatedVpi::callCbs(cbReadOnlySynch);
            dump();
            if (Verilated::gotFinish()) break;

            const uint64_t deadline = VerilatedVpi::cbNextDeadline();
            if (top_->go != top_->done && free_run(deadline)) continue;  // the value callbacks of `done` are due now

            if (deadline == NEVER) break;  // nobody waits for anything
            context().time(deadline);
            VerilatedVpi::callCbs(cbNextSimTime);
            settle();
            VerilatedVpi::callTimedCbs();
            settle();
        }
        finish();
        return Verilated::threadContextp()->errorCount() ? 1 : 0;
    }

private:
    std::unique_ptr<Vtop> top_;
    uint64_t* header_ = nullptr;
    int control_ = -1;
    uint64_t number_ = 0;  ///< the burst under way
#if VM_TRACE_FST
    std::unique_ptr<VerilatedFstC> trace_;
#endif

    static VerilatedContext& context() { return *Verilated::threadContextp(); }

    static void settle() {
        while (VerilatedVpi::callValueCbs()) {
        }
    }

    void evaluate() {
        do {
            do {
                top_->eval_step();
                VerilatedVpi::clearEvalNeeded();
                VerilatedVpi::doInertialPuts();
                settle();
            } while (VerilatedVpi::evalNeeded());
            VerilatedVpi::callCbs(cbReadWriteSynch);
            VerilatedVpi::doInertialPuts();
            settle();
        } while (VerilatedVpi::evalNeeded());
        top_->eval_end_step();
    }

    uint64_t load(Field field) const { return __atomic_load_n(&header_[field], __ATOMIC_SEQ_CST); }
    void store(Field field, uint64_t value) { __atomic_store_n(&header_[field], value, __ATOMIC_SEQ_CST); }

    /// Serves bursts until no further command comes for a while; returns false if `deadline` left no time for a clock cycle.
    bool free_run(uint64_t deadline) {
        begin_burst();
        for (;;) {
            if (!clock_until_done(deadline)) return false;
            if (top_->done != top_->go || Verilated::gotFinish()) return true;
            end_burst();
            if (!next_command()) return true;
            top_->go = !top_->go;
            begin_burst();
        }
    }

    /// Clocks the chip until it is done or `deadline` comes near; returns false if there was no time for a clock cycle.
    bool clock_until_done(uint64_t deadline) {
        const auto go = top_->go;
        const uint64_t limit = header_[WATCHDOG];
        uintptr_t progress = spikeloop::progress();
        uint64_t idle = 0;
        while (top_->done != go) {
            const uint64_t room = deadline == NEVER ? CHECK_INTERVAL : (deadline - context().time()) / (2 * HALF_PERIOD);
            const uint64_t budget = std::min(CHECK_INTERVAL, room);
            if (budget == 0) return false;
            uint64_t made = 0;
            while (made < budget && top_->done != go) {
                edge(1);
                edge(0);
                ++made;
            }
            if (!TIMED) context().timeInc(made * 2 * HALF_PERIOD);
            header_[CYCLES] = top_->cycles;
            if (Verilated::gotFinish()) break;
            if (made == CHECK_INTERVAL) {
                idle = spikeloop::progress() == progress ? idle + made : 0;
                progress = spikeloop::progress();
                if (limit && idle >= limit) stuck(idle);
                if (parent_gone()) leave(0);
            }
        }
        return true;
    }

    void edge(uint8_t level) {
        if (TIMED) context().timeInc(HALF_PERIOD);
        top_->clk = level;
        top_->eval();
        dump();
    }

    /// Takes over what the parent left in the header. Does nothing in the middle of a burst that a deadline interrupted.
    void begin_burst() {
        if (header_[REASON] == WORKING) return;
        header_[ASLEEP] = 0;
        number_ = load(COMMAND);
        header_[REASON] = WORKING;
        words.next_in = header_ + header_[IN_OFFSET];
        words.end_in = words.next_in + header_[IN_COUNT];
        words.more = header_[MORE] != 0;
        words.next_out = header_ + header_[OUT_OFFSET];
        words.end_out = words.next_out + header_[OUT_CAPACITY];
    }

    void end_burst() {
        publish(words.next_out == words.end_out                         ? OUTPUT_FULL
                : words.more && words.next_in == words.end_in ? INPUT_WANTED
                                                              : FINISHED);
        store(ANSWER, number_);
        if (load(PARENT_WAITS) && write(control_, &number_, sizeof number_) < 0) leave(0);
    }

    /// Looks for a command for a while; announces on giving up that the next one needs a message.
    bool next_command() {
        const auto start = std::chrono::steady_clock::now();
        const std::chrono::nanoseconds patience(header_[SPIN]);
        while (std::chrono::steady_clock::now() - start < patience) {
            for (int i = 0; i < 32; ++i) {
                if (load(COMMAND) != number_) return true;
            }
        }
        store(ASLEEP, 1);
        return load(COMMAND) != number_;
    }

    void publish(Reason reason) {
        header_[IN_USED] = header_[IN_COUNT] - static_cast<uint64_t>(words.end_in - words.next_in);
        header_[OUT_COUNT] = static_cast<uint64_t>(words.next_out - (header_ + header_[OUT_OFFSET]));
        header_[REASON] = reason;
    }

    [[noreturn]] void stuck(uint64_t idle) {
        std::fprintf(stderr, "watchdog: the chip stayed busy for %" PRIu64 " clock cycles without moving a word (cycle %" PRIu64 ")\n",
                     idle, static_cast<uint64_t>(top_->cycles));
        publish(STUCK);
        leave(3);
    }

    /// Ends the process here and now, with the log and the waves written.
    [[noreturn]] void leave(int code) {
        close_trace();
        std::fflush(nullptr);
        std::_Exit(code);
    }

    bool parent_gone() const {
        if (control_ < 0) return false;
        pollfd control{control_, POLLIN, 0};
        return poll(&control, 1, 0) > 0 && (control.revents & (POLLHUP | POLLERR)) != 0;
    }

    void map_region() {
        const char* text = std::getenv("SPIKELOOP_REGION");
        if (!text) fail("the environment variable SPIKELOOP_REGION is not set");
        const int file = std::atoi(text);
        struct stat status{};
        if (fstat(file, &status) != 0) fail("the file descriptor in SPIKELOOP_REGION is not open");
        void* memory = mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (memory == MAP_FAILED) fail("the shared region cannot be mapped");
        header_ = static_cast<uint64_t*>(memory);
    }

    [[noreturn]] static void fail(const char* message) {
        std::fprintf(stderr, "simulator: %s\n", message);
        std::exit(2);
    }

#if VM_TRACE_FST
    void open_trace(int argc, char** argv) {
        for (int i = 1; i + 1 < argc; ++i) {
            if (std::strcmp(argv[i], "--trace-file") != 0) continue;
            Verilated::traceEverOn(true);
            trace_ = std::make_unique<VerilatedFstC>();
            top_->trace(trace_.get(), 99);
            trace_->open(argv[i + 1]);
        }
    }
    void dump() {
        if (trace_) trace_->dump(context().time());
    }
    void close_trace() {
        if (trace_) trace_->close();
    }
#else
    void open_trace(int, char**) {}
    void dump() {}
    void close_trace() {}
#endif

    void finish() {
        top_->final();
        VerilatedVpi::callCbs(cbEndOfSimulation);
        close_trace();
#if VM_COVERAGE
        Verilated::threadContextp()->coveragep()->write();
#endif
    }
};

}  // namespace

int main(int argc, char** argv) { return Simulation(argc, argv).run(); }
