#include "generators/codegen/cuda/linker.h"

#include "generators/codegen/cuda/markers.h"
#include "generators/codegen/cuda/warpgroups.h"

#include <algorithm>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace moa::codegen::cuda {
namespace {

// $r is the call's result, $0.. are its arguments, $d0.. the registers of an instruction with several results. An instruction
// that loads is put where its argument was loaded: $a is the address, $space where that is.
struct Instruction {
    const char *text;
    int results = 1;
    bool loads = false;
};

const std::map<std::string, Instruction> &instructions() {
    static const std::map<std::string, Instruction> table = {
        {"moa_fma", {"fma.rn.f32 $r, $0, $1, $2;"}},
        {"moa_max", {"max.f32 $r, $0, $1;"}},
        {"moa_multiply_up", {"mul.rp.f32 $r, $0, $1;"}},
        {"moa_exp2", {"ex2.approx.ftz.f32 $r, $0;"}},
        {"moa_to_bf16", {"cvt.rn.bf16x2.f32 $r, 0f00000000, $0;"}},
        {"moa_to_f16", {"cvt.rn.f16x2.f32 $r, 0f00000000, $0;"}},
        {"moa_to_tf32", {"cvt.rna.tf32.f32 $r, $0;"}},
        {"moa_pack_bf16", {"cvt.rn.bf16x2.f32 $r, $1, $0;"}},
        {"moa_pack_f16", {"cvt.rn.f16x2.f32 $r, $1, $0;"}},
        {"moa_pinned", {"mov.b32 $r, $0;"}},
        {"moa_thread_x", {"mov.u32 $r, %tid.x;"}},
        {"moa_thread_y", {"mov.u32 $r, %tid.y;"}},
        {"moa_thread_z", {"mov.u32 $r, %tid.z;"}},
        {"moa_block_x", {"mov.u32 $r, %ctaid.x;"}},
        {"moa_block_y", {"mov.u32 $r, %ctaid.y;"}},
        {"moa_block_z", {"mov.u32 $r, %ctaid.z;"}},
        {"moa_select_by_bit", {"{\n\t.reg .pred %chosen;\n\t.reg .b32 %bit;\n\tand.b32 %bit, $2, $3;\n\tsetp.ne.b32 %chosen, %bit, 0;\n\t"
                               "selp.f32 $d0, $0, $4, %chosen;\n\tselp.f32 $d1, $1, $4, %chosen;\n\t}",
                               2}},
        {"moa_show", {"{\n\t.reg .pred %shown;\n\tsetp.ne.u32 %shown, $1, 0;\n\tselp.f32 $r, $0, 0fFF800000, %shown;\n\t}"}},
        {"moa_shuffle_xor", {"shfl.sync.bfly.b32 $r, $0, $1, 0x1f, 0xffffffff;"}},
        {"moa_ballot", {"{\n\t.reg .pred %vote;\n\tsetp.ne.u32 %vote, $0, 0;\n\tvote.sync.ballot.b32 $r, %vote, 0xffffffff;\n\t}"}},
        {"moa_mma_m16n8k16_bf16", {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$d0, $d1, $d2, $d3}, {$0, $1, $2, $3}, {$4, $5}, {$6, $7, $8, $9};", 4}},
        {"moa_mma_m16n8k16_f16", {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {$d0, $d1, $d2, $d3}, {$0, $1, $2, $3}, {$4, $5}, {$6, $7, $8, $9};", 4}},
        {"moa_mma_m16n8k8_tf32", {"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$d0, $d1, $d2, $d3}, {$0, $1, $2, $3}, {$4, $5}, {$6, $7, $8, $9};", 4}},
        {marker::kLoadMatrices, {"ldmatrix.sync.aligned.m8n8.x4.$space.b16 {$d0, $d1, $d2, $d3}, $a;", 4, true}},
        {marker::kLoadTransposed, {"ldmatrix.sync.aligned.m8n8.x4.trans.$space.b16 {$d0, $d1, $d2, $d3}, $a;", 4, true}},
        {marker::kLoadWords, {"ld.$space.v4.b32 {$d0, $d1, $d2, $d3}, $a;", 4, true}},
        {marker::kResultFloat, {"mov.b32 $r, $d;"}},
        {marker::kResultWord, {"mov.b32 $r, $d;"}},
        {marker::kCommitCopies, {"cp.async.commit_group;"}},
        {marker::kWaitForCopies, {"cp.async.wait_group $0;"}},
        {marker::kWaitForProducts, {"wgmma.wait_group.sync.aligned $0;"}},
        {marker::kShowToProducts, {"fence.proxy.async.shared::cta;"}},
    };
    return table;
}

std::string filled(std::string text, const std::string &key, const std::string &value) {
    for (size_t at = 0; (at = text.find(key, at)) != std::string::npos; at += value.size()) {
        text.replace(at, key.size(), value);
    }
    return text;
}

// A call as LLVM writes it: { // callseq N / st.param.b32 [paramI], VALUE; / call.uni (retval0), NAME, (...); / ld.param.b32
// RESULT, [retval0]; / } // callseq N. All values are registers or constants.
struct Call {
    std::string name;
    std::map<int, std::string> arguments;
    std::string result;
    size_t first = 0, last = 0;  // its lines

    const std::string &argument(int i) const {
        const auto it = arguments.find(i);
        if (it == arguments.end()) {
            throw std::runtime_error("PTX: a call of " + name + " has no argument " + std::to_string(i));
        }
        return it->second;
    }
};

bool contains(const std::string &line, const char *text) {
    return line.find(text) != std::string::npos;
}

class Linker {
public:
    Linker(const std::string &ptx, int registers)
        : most_registers_(registers) {
        std::istringstream stream(ptx);
        for (std::string line; std::getline(stream, line);) {
            lines_.push_back(line);
        }
    }

    LinkedPtx link() {
        find_calls();
        find_anchors();
        rewrite();
        make_copies_asynchronous();
        if (counts_.capability != 0) {
            raise_target();
        }
        LinkedPtx linked = counts_;
        linked.matrix_products += warpgroups_.instructions();
        std::ostringstream text;
        for (const std::string &line : out_) {
            text << line << "\n";
        }
        linked.text = text.str();
        return linked;
    }

private:
    struct Anchor {
        std::string instruction;
        std::string results;  // empty until the load has been met
    };

    int most_registers_;
    std::vector<std::string> lines_, out_;
    Warpgroups warpgroups_;
    std::map<size_t, Call> calls_;                // by first line
    std::map<std::string, std::string> results_;  // token -> the name that the instruction's results begin with
    std::map<std::string, Anchor> anchors_;       // by the register of the word that stands for an instruction's data
    std::vector<size_t> bodies_;                  // lines of out_ after which a kernel's registers are declared
    std::map<size_t, std::string> registers_;     // body -> declarations
    LinkedPtx counts_;
    int pairs_ = 0;  // instructions of two results

    void find_calls() {
        static const std::regex argument(R"(\s*st\.param\.\w+\s+\[param(\d+)(?:\+0)?\],\s*([^;]+);)"), name(R"(\b(moa_\w+))"),
            result(R"(\s*ld\.param\.\w+\s+([^,]+),\s*\[retval0(?:\+0)?\];)");
        std::smatch match;
        for (size_t i = 0; i < lines_.size(); i++) {
            if (!contains(lines_[i], "{ // callseq") && !contains(lines_[i], "{\t// callseq")) {
                continue;
            }
            Call call;
            call.first = i;
            for (; i < lines_.size() && !contains(lines_[i], "} // callseq") && !contains(lines_[i], "}\t// callseq"); i++) {
                if (std::regex_search(lines_[i], match, argument)) {
                    call.arguments[std::stoi(match[1])] = match[2];
                } else if (std::regex_search(lines_[i], match, result)) {
                    call.result = match[1];
                }
                if (call.name.empty() && std::regex_search(lines_[i], match, name)) {
                    call.name = match[1];
                }
            }
            call.last = i;
            if (!call.name.empty()) {
                calls_[call.first] = call;
            }
        }
    }

    // Registers are numbered anew in every kernel.
    static std::string key(size_t kernel, const std::string &name) {
        return std::to_string(kernel) + ":" + name;
    }

    static const Instruction &instruction_named(const std::string &name) {
        const auto it = instructions().find(name);
        if (it == instructions().end()) {
            throw std::runtime_error("PTX: there is no instruction for " + name);
        }
        return it->second;
    }

    void find_anchors() {
        size_t kernel = 0;
        for (size_t i = 0; i < lines_.size(); i++) {
            kernel += contains(lines_[i], ".entry") ? 1 : 0;
            const auto it = calls_.find(i);
            if (it != calls_.end() && Warpgroups::takes(it->second.name)) {
                warpgroups_.find(i, kernel, of_warpgroup(it->second));
                continue;
            }
            if (it == calls_.end() || !instruction_named(it->second.name).loads) {
                continue;
            }
            const Call &call = it->second;
            const auto [anchor, is_new] = anchors_.try_emplace(key(kernel, call.argument(0)), Anchor{call.name, ""});
            if (!is_new && anchor->second.instruction != call.name) {
                throw std::runtime_error("PTX: " + call.argument(0) + " stands for the data of two instructions");
            }
        }
    }

    static Warpgroups::Call of_warpgroup(const Call &call) {
        Warpgroups::Call same{call.name, {}, call.result};
        for (const auto &argument : call.arguments) {
            same.arguments.push_back(argument.second);
        }
        return same;
    }

    void put_warpgroup(const Call &call, size_t kernel) {
        counts_.capability = kWarpgroupCapability;
        out_.push_back(warpgroups_.call(call.first, kernel, of_warpgroup(call)));
        registers_[bodies_.back()] += warpgroups_.take_declarations();
    }

    std::string declare(const std::string &kind, int number, int count) {
        std::string name = std::string("%") + kind + std::to_string(number) + "_";
        std::string text = "\t.reg .b32 ";
        for (int i = 0; i < count; i++) {
            text += (i == 0 ? "" : ", ") + name + std::to_string(i);
        }
        registers_[bodies_.empty() ? 0 : bodies_.back()] += text + ";\n";
        return name;
    }

    std::string instruction_of(const Call &call, size_t kernel) {
        const Instruction &instruction = instruction_named(call.name);
        std::string text = instruction.text;
        if (call.name == marker::kResultFloat || call.name == marker::kResultWord) {
            const auto results = results_.find(key(kernel, call.argument(0)));
            if (results == results_.end()) {
                throw std::runtime_error("PTX: the results " + call.argument(0) + " of an instruction have been moved or merged");
            }
            text = filled(text, "$d", results->second + call.argument(1));
        } else if (instruction.results > 1) {
            const bool product = call.name.starts_with("moa_mma");
            const std::string name = product ? declare("mma", counts_.matrix_products++, instruction.results) : declare("pair", pairs_++, instruction.results);
            results_[key(kernel, call.result)] = name;
            text = filled(text, "$d", name);
        }
        counts_.shuffles += call.name == "moa_shuffle_xor" || call.name == "moa_ballot" ? 1 : 0;
        text = filled(text, "$r", call.result);
        for (const auto &[i, value] : call.arguments) {
            text = filled(text, std::string("$") + std::to_string(i), value);
        }
        return text;
    }

    void load_at_anchor(Anchor &anchor, const std::string &space, const std::string &address) {
        const Instruction &instruction = instruction_named(anchor.instruction);
        const bool matrices = anchor.instruction != marker::kLoadWords;
        anchor.results = matrices ? declare("matrix", counts_.matrix_loads++, instruction.results) : declare("words", counts_.word_loads++, instruction.results);
        std::string text = filled(instruction.text, "$d", anchor.results);
        text = filled(text, "$space", space);
        out_.push_back(std::string("\t") + filled(text, "$a", address));
    }

    void rewrite() {
        static const std::regex load(R"(\s*ld\.(shared|global|global\.nc)\.[bu]32\s+(%\w+),\s*(\[[^\]]*\]);)");
        std::smatch match;
        size_t kernel = 0;
        for (size_t i = 0; i < lines_.size(); i++) {
            const std::string &line = lines_[i];
            kernel += contains(line, ".entry") ? 1 : 0;
            if (contains(line, ".extern .func") && drop_declaration(i)) {
                continue;
            }
            const auto call = calls_.find(i);
            if (call == calls_.end()) {
                if (!line.empty() && line[0] == '$') {
                    warpgroups_.next_block();
                }
                if (contains(line, "ld.shared") && std::regex_match(line, match, load)) {
                    const std::string tiles = warpgroups_.load(kernel, match[2], match[3]);
                    if (!tiles.empty()) {
                        out_.push_back(tiles);
                        continue;
                    }
                }
                if (!anchors_.empty() && std::regex_match(line, match, load)) {
                    const auto anchor = anchors_.find(key(kernel, match[2]));
                    if (anchor != anchors_.end()) {
                        load_at_anchor(anchor->second, match[1], match[3]);
                        continue;
                    }
                }
                if (line == "{" && most_registers_ > 0) {
                    out_.push_back(".maxnreg " + std::to_string(most_registers_));
                }
                out_.push_back(line);
                if (line == "{") {
                    bodies_.push_back(out_.size());
                }
                continue;
            }
            if (Warpgroups::takes(call->second.name)) {
                put_warpgroup(call->second, kernel);
            } else if (instruction_named(call->second.name).loads) {
                const std::string &results = anchors_.at(key(kernel, call->second.argument(0))).results;
                if (results.empty()) {
                    throw std::runtime_error("PTX: " + call->second.argument(0) + ", which stands for the data of " + call->second.name + ", is not loaded by itself");
                }
                results_[key(kernel, call->second.result)] = results;
            } else {
                if (call->second.name == marker::kWaitForProducts) {
                    warpgroups_.wait_for(std::stoi(call->second.argument(0)));
                }
                out_.push_back(std::string("\t") + instruction_of(call->second, kernel));
            }
            i = call->second.last;
        }
        for (auto body = bodies_.rbegin(); body != bodies_.rend(); ++body) {
            std::istringstream stream(registers_[*body]);
            std::vector<std::string> declarations;
            for (std::string line; std::getline(stream, line);) {
                declarations.push_back(line);
            }
            out_.insert(out_.begin() + static_cast<std::ptrdiff_t>(*body), declarations.begin(), declarations.end());
        }
    }

    // Declarations of marker functions go; `i` moves to the last line.
    bool drop_declaration(size_t &i) {
        size_t last = i;
        bool ours = false;
        for (; last < lines_.size(); last++) {
            ours = ours || contains(lines_[last], "moa_");
            if (contains(lines_[last], ";")) {
                break;
            }
        }
        if (ours) {
            i = last;
        }
        return ours;
    }

    void raise_target() {
        for (std::string &line : out_) {
            if (line.rfind(".version", 0) == 0) {
                line = std::string(".version ") + kWarpgroupVersion;
            } else if (line.rfind(".target", 0) == 0) {
                line = std::string(".target ") + kWarpgroupTarget;
            }
        }
    }

    // A word of global memory: the base register and the offset in bytes.
    struct Word {
        std::string base;
        long offset;
    };

    static std::vector<std::string> registers_of(const std::string &list) {
        static const std::regex one(R"(%\w+)");
        return {std::sregex_token_iterator(list.begin(), list.end(), one), std::sregex_token_iterator()};
    }

    // LLVM may load the 16 bytes in parts, as it knows less of the alignment than we ask for.
    void make_copies_asynchronous() {
        static const std::regex load(R"(\s*ld\.global\.nc(?:\.\w+)*\.[bfu](32|64)\s+(\{[^}]*\}|%\w+),\s*\[(%\w+)(?:\+(-?\d+))?\];)"),
            store(R"(\s*st\.shared\.(v2\.[bfu]64|v4\.[bfu]32)\s+(\[[^\]]*\]),\s*(\{[^}]*\});)");
        std::smatch match;
        std::map<std::string, Word> loaded;  // within a basic block
        std::vector<std::pair<size_t, std::string>> pending;
        for (size_t i = 0; i < out_.size(); i++) {
            const std::string &line = out_[i];
            if (contains(line, "cp.async.commit_group")) {
                for (const auto &[at, text] : pending) {
                    out_[at] = text;
                    counts_.copies++;
                }
                pending.clear();
            }
            const bool label = !line.empty() && line[0] == '$';
            if (label) {
                loaded.clear();
            }
            if (label || contains(line, "bar.sync") || contains(line, "barrier.sync") || contains(line, "\tbra")) {
                pending.clear();
            }
            if (contains(line, "ld.global.nc") && std::regex_match(line, match, load)) {
                long offset = match[4].matched ? std::stol(match[4]) : 0;
                for (const std::string &name : registers_of(match[2])) {
                    loaded[name] = {match[3], offset};
                    offset += std::stol(match[1]) / 8;
                }
            } else if (contains(line, "st.shared.v") && std::regex_match(line, match, store)) {
                const std::vector<std::string> names = registers_of(match[3]);
                const long bytes = 16 / static_cast<long>(names.size());
                const auto first = loaded.find(names[0]);
                bool whole = first != loaded.end();
                for (size_t n = 1; whole && n < names.size(); n++) {
                    const auto word = loaded.find(names[n]);
                    whole = word != loaded.end() && word->second.base == first->second.base &&
                            word->second.offset == first->second.offset + bytes * static_cast<long>(n);
                }
                if (whole) {
                    // The loads are dead then; ptxas removes them.
                    const std::string from = std::string("[") + first->second.base + "+" + std::to_string(first->second.offset) + "]";
                    pending.emplace_back(i, "\tcp.async.cg.shared.global " + match[2].str() + ", " + from + ", 16;");
                }
            }
        }
    }
};

}  // namespace

LinkedPtx link_ptx(const std::string &ptx, int registers) {
    if (registers == 0 && ptx.find("moa_") == std::string::npos) {
        return {ptx};
    }
    return Linker(ptx, registers).link();
}

}  // namespace moa::codegen::cuda
