// A board between its serial pins and a pseudo-terminal.
//
// usage: board TERMINAL CONTROL REGION DIVISOR TICK DAMAGE WIRE SEED
//   TERMINAL, CONTROL, REGION   open file descriptors: the master's side; a socket whose hang-up ends the process; counters
//   DIVISOR                     clock cycles per bit
//   TICK                        clock cycles that the light "working" may lag behind the chip
//   DAMAGE                      probability that a byte is damaged, in either direction
//   WIRE                        0: a byte is changed, lost or doubled; 1: a bit is flipped, and the idle line glitches
//   SEED                        of the damage
//
// The clock runs as long as bytes move or the light says that the chip works. Then the process waits for a byte.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>

#include "Vtop.h"
#include "verilated.h"

namespace {

enum Counter { CYCLES, TO_BOARD, FROM_BOARD, DAMAGED_TO_BOARD, DAMAGED_FROM_BOARD, FRAMING_ERRORS };

constexpr int BITS = 10;
constexpr std::size_t QUEUE = 4096;  // bytes read ahead
constexpr unsigned WORKING = 2;      // the light's place in `led`

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(2);
}

/// One direction of a bad line.
class Damage {
public:
    Damage(double probability, bool wire, uint64_t seed, int divisor, uint64_t& count)
        : hit_(probability), wire_(wire), random_(seed), divisor_(divisor), count_(count) {}

    /// What becomes of a byte: none, one or two.
    std::string bytes(uint8_t byte) {
        std::string result(1, static_cast<char>(byte));
        if (wire_ || !hit_(random_)) return result;
        ++count_;
        switch (below(3)) {
            case 0: result[0] = static_cast<char>(byte ^ (1 + below(255))); break;
            case 1: result.clear(); break;
            default: result += result;
        }
        return result;
    }

    /// Level of the line in the next clock cycle, `level` being what its driver wants; called in every one. Within bytes one
    /// bit's time is inverted, not in step with the bits; otherwise there are glitches too short for a start bit.
    bool level(bool level, bool within_byte) {
        if (!wire_) return level;
        if (++at_ == BITS * divisor_) {
            at_ = 0;
            begin_ = end_ = 0;
            if (hit_(random_)) {
                ++count_;
                const int length = within_byte ? divisor_ : below(divisor_ / 2 - 1) + 1;
                begin_ = below(BITS * divisor_ - length);
                end_ = begin_ + length;
            }
        }
        return level ^ (at_ >= begin_ && at_ < end_);
    }

private:
    std::bernoulli_distribution hit_;
    bool wire_;
    std::mt19937_64 random_;
    int divisor_;
    uint64_t& count_;
    int at_ = 0, begin_ = 0, end_ = 0;

    int below(int limit) { return std::uniform_int_distribution<int>(0, limit - 1)(random_); }
};

/// Bytes into a line, as a UART sends them.
class Transmitter {
public:
    explicit Transmitter(int divisor) : divisor_(divisor) {}

    bool busy() const { return left_ > 0; }
    void send(uint8_t byte) {
        bits_ = 0x200u | static_cast<unsigned>(byte) << 1;  // a start bit, the byte's lowest bit first, a stop bit
        left_ = BITS * divisor_;
    }
    bool level() {
        if (!left_) return true;
        const int bit = BITS - 1 - (left_ - 1) / divisor_;
        --left_;
        return bits_ >> bit & 1;
    }

private:
    int divisor_, left_ = 0;
    unsigned bits_ = 0;
};

/// Bytes out of a line: each bit is what the line is in its middle. A start bit begins with a falling edge.
class Receiver {
public:
    explicit Receiver(int divisor) : divisor_(divisor) {}

    bool busy() const { return at_ >= 0; }

    /// Takes the level of a clock cycle; true if it ends a byte, which is `byte`, or `framing_error` instead.
    bool take(bool level) {
        framing_error = false;
        if (at_ < 0) {
            if (!level && before_) at_ = 0;
            before_ = level;
            return false;
        }
        before_ = level;
        ++at_;
        if (at_ % divisor_ != divisor_ / 2) return false;
        const int bit = at_ / divisor_;
        if (bit == 0) {
            if (level) at_ = -1;  // a glitch
            return false;
        }
        if (bit < BITS - 1) {
            byte = static_cast<uint8_t>(byte >> 1 | (level ? 0x80 : 0));
            return false;
        }
        framing_error = !level;
        at_ = -1;
        return level;
    }

    uint8_t byte = 0;
    bool framing_error = false;

private:
    int divisor_, at_ = -1;
    bool before_ = true;
};

class Session {
public:
    Session(int argc, char** argv) {
        if (argc != 9) {
            std::fprintf(stderr, "usage: board TERMINAL CONTROL REGION DIVISOR TICK DAMAGE WIRE SEED\n");
            std::exit(2);
        }
        terminal_ = std::atoi(argv[1]);
        control_ = std::atoi(argv[2]);
        void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, std::atoi(argv[3]), 0);
        if (memory == MAP_FAILED) fail("board: the counters cannot be mapped");
        counters_ = static_cast<uint64_t*>(memory);
        divisor_ = std::atoi(argv[4]);
        patience_ = 3 * std::strtoull(argv[5], nullptr, 10);
        const double damage = std::atof(argv[6]);
        const bool wire = std::atoi(argv[7]) != 0;
        const uint64_t seed = std::strtoull(argv[8], nullptr, 10);
        to_board_ = std::make_unique<Damage>(damage, wire, 2 * seed, divisor_, counters_[DAMAGED_TO_BOARD]);
        from_board_ = std::make_unique<Damage>(damage, wire, 2 * seed + 1, divisor_, counters_[DAMAGED_FROM_BOARD]);
        const int flags = fcntl(terminal_, F_GETFL);
        if (flags < 0 || fcntl(terminal_, F_SETFL, flags | O_NONBLOCK) < 0) fail("board: the terminal is not open");
    }

    void run() {
        Vtop top;
        Transmitter transmitter(divisor_);
        Receiver receiver(divisor_);
        uint64_t quiet = 0;
        top.rx = 1;
        top.rst = 1;
        for (int i = 0; i < 4; ++i) cycle(top);
        top.rst = 0;
        for (;;) {
            for (int i = 0; i < BITS * divisor_; ++i) {
                while (!transmitter.busy() && !input_.empty()) {
                    transmitter.send(input_.front());
                    input_.pop_front();
                }
                const bool sending = transmitter.busy();
                top.rx = to_board_->level(transmitter.level(), sending);
                cycle(top);
                if (receiver.take(from_board_->level(top.tx, receiver.busy()))) {
                    ++counters_[FROM_BOARD];
                    output_ += from_board_->bytes(receiver.byte);
                }
                counters_[FRAMING_ERRORS] += receiver.framing_error;
                if (sending || receiver.busy() || (top.led & WORKING)) quiet = 0;
                else ++quiet;
            }
            write_output();
            read_input();
            // The first byte after a wait finds the board as if no time had passed: it has no timers of its own.
            if (quiet > patience_ && input_.empty()) wait();
        }
    }

private:
    int terminal_, control_, divisor_;
    uint64_t patience_;
    uint64_t* counters_;
    std::unique_ptr<Damage> to_board_, from_board_;
    std::deque<uint8_t> input_;
    std::string output_;

    void cycle(Vtop& top) {
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
        if ((++counters_[CYCLES] & 0xFFFFF) == 0) leave_if_alone(0);
    }

    void read_input() {
        if (input_.size() >= QUEUE) return;
        uint8_t data[QUEUE];
        const ssize_t count = read(terminal_, data, sizeof data);
        if (count < 0 && errno != EAGAIN && errno != EINTR) fail("board: reading from the terminal");
        for (ssize_t i = 0; i < count; ++i) {
            ++counters_[TO_BOARD];
            for (const char byte : to_board_->bytes(data[i])) input_.push_back(static_cast<uint8_t>(byte));
        }
    }

    void write_output() {
        if (output_.empty()) return;
        const ssize_t count = write(terminal_, output_.data(), output_.size());
        if (count < 0 && errno != EAGAIN && errno != EINTR) fail("board: writing to the terminal");
        if (count > 0) output_.erase(0, static_cast<std::size_t>(count));
    }

    /// Until a byte comes in, or what nobody reads can go out.
    void wait() {
        pollfd waiting[] = {{terminal_, static_cast<short>(output_.empty() ? POLLIN : POLLIN | POLLOUT), 0}, {control_, POLLIN, 0}};
        if (poll(waiting, 2, -1) < 0 && errno != EINTR) fail("board: waiting");
        leave_if_alone(waiting[1].revents);
        read_input();
    }

    /// Ends the process when its parent has hung up.
    void leave_if_alone(short events) {
        pollfd control{control_, POLLIN, events};
        if (!events && poll(&control, 1, 0) <= 0) return;
        if (control.revents) std::exit(0);
    }
};

}  // namespace

int main(int argc, char** argv) { Session(argc, argv).run(); }
