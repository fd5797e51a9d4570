#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

// PTX of products of a warpgroup (wgmma), which GPUs of compute capability 9.0 have and no others.
namespace moa::codegen::cuda {

inline constexpr int kWarpgroupCapability = 90;
inline constexpr char kWarpgroupTarget[] = "sm_90a", kWarpgroupVersion[] = "8.0";

// Takes the calls of marker names that begin with moa_wgmma (markers.h) as the linker meets them, in the order of the text, and
// says what comes in their place. Throws std::runtime_error for what it cannot place.
class Warpgroups {
public:
    struct Call {
        std::string name;
        std::vector<std::string> arguments;
        std::string result;
    };
    static bool takes(const std::string &name);

    // Before the others: where the words that name tiles are loaded. id tells calls apart; kernels number registers anew.
    void find(size_t id, size_t kernel, const Call &call);
    // What comes in the place of the load of a register from "[address]": nothing if it names no tile.
    std::string load(size_t kernel, const std::string &name, const std::string &address);
    std::string call(size_t id, size_t kernel, const Call &call);
    // Registers that must be declared since the last time.
    std::string take_declarations();

    void next_block();          // control flow may come here from elsewhere
    void wait_for(int groups);  // all but so many are waited for

    int instructions() const {
        return instructions_;
    }

private:
    struct Tile {
        std::string name;  // of the 64-bit register that describes it
        int row_bytes = 0, parts = 1, part_bytes = 0;
        bool described = false;
    };
    struct Sums {
        std::string type;  // of the operands: bf16, f16
        int set = 0, columns = 0;
        bool fresh = false;  // they begin at 0
    };
    struct Group {
        int set;
        size_t block;
    };

    std::map<size_t, std::vector<Tile>> tiles_;                                            // of a call
    std::map<std::pair<size_t, std::string>, std::vector<std::pair<size_t, size_t>>> of_;  // kernel, register of a first word -> call, tile of it
    std::map<std::pair<size_t, int>, int> declared_;                                       // kernel, set -> columns
    std::string declarations_;
    std::vector<Group> begun_;  // and not waited for
    size_t block_ = 0;
    int instructions_ = 0;

    static std::string describe(const Tile &tile, const std::string &address);
    static std::string multiply_tiles(const Sums &sums, const Tile &a, const Tile &b);
    static std::string multiply_rows(const Sums &sums, const Call &call, const Tile &b);
    static std::string begin(const Call &call);
    std::string scale(const Call &call);
    std::string product(size_t id, const Call &call);
    std::string finish(int set);
    void declare(size_t kernel, int set, int columns);
};

}  // namespace moa::codegen::cuda
