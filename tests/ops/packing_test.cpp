#include "runtime/bf16.h"
#include "runtime/packing.h"

#include <cmath>
#include <gtest/gtest.h>
#include <vector>

namespace moa {

namespace {

// Weight (e, o, c) is e * 100 + o * 10 + c + 1 (exact in bf16 up to 256); everything else in the panels is
// zero.
void expect_packed(const PanelFormat &format, int64_t out, int64_t in, int64_t experts) {
    std::vector<float> weights;
    for (int64_t e = 0; e < experts; e++) {
        for (int64_t o = 0; o < out; o++) {
            for (int64_t c = 0; c < in; c++) {
                weights.push_back(static_cast<float>(e * 100 + o * 10 + c + 1));
            }
        }
    }
    std::vector<std::byte> packed(packed_bytes(format, out, in, experts), std::byte{0xff});
    pack_panels(format, weights.data(), out, in, experts, packed.data());
    const View view = packed_view(format, packed.data(), out, in, experts);
    ASSERT_EQ(view.rank, 4);
    const int64_t panels = (out + format.panel - 1) / format.panel,
                  groups = ((in + format.pair - 1) / format.pair + format.align - 1) / format.align * format.align;
    EXPECT_EQ(view.extent(3), experts);
    size_t place = 0;
    for (int64_t e = 0; e < experts; e++) {
        for (int64_t p = 0; p < panels; p++) {
            for (int64_t g = 0; g < groups; g++) {
                for (int64_t lane = 0; lane < static_cast<int64_t>(format.panel) * format.pair;
                     lane++, place++) {
                    const int64_t o = p * format.panel + lane / format.pair,
                                  c = g * format.pair + lane % format.pair;
                    const float want = o < out && c < in ? weights[(e * out + o) * in + c] : 0;
                    const float got =
                        format.dtype == DType::bf16
                            ? bf16_to_f32(reinterpret_cast<const uint16_t *>(packed.data())[place])
                            : reinterpret_cast<const float *>(packed.data())[place];
                    ASSERT_EQ(got, want) << "expert " << e << " output " << o << " input " << c;
                }
            }
        }
    }
    EXPECT_EQ(place * size_bytes(format.dtype), packed.size());
}

TEST(Packing, EveryWeightHasItsPlaceAndTheRestIsZero) {
    for (const int panel : {1, 4, 8}) {
        for (const int pair : {1, 2}) {
            for (const DType dtype : {DType::f32, DType::bf16}) {
                expect_packed({panel, pair, dtype}, 9, 5, 2);
                expect_packed({panel, pair, dtype}, 8, 4, 1);
                expect_packed({panel, pair, dtype}, 1, 1, 1);
                expect_packed({panel, pair, dtype, 16}, 9, 35, 2);
            }
        }
    }
}

// Three pieces hold a weight exactly, each in the place that it would have alone.
TEST(Packing, PiecesAddUpToTheWeight) {
    const int64_t out = 5, in = 37;
    std::vector<float> weights;
    for (int64_t i = 0; i < out * in; i++) {
        weights.push_back(std::ldexp(std::sin(static_cast<float>(i + 1)), static_cast<int>(i % 40) - 20));
    }
    const PanelFormat whole{.panel = 4, .pair = 2, .dtype = DType::bf16, .align = 16}, format{.panel = 4, .pair = 2, .dtype = DType::bf16, .align = 16, .pieces = 3};
    std::vector<uint16_t> alone(packed_bytes(whole, out, in, 1) / 2), packed(packed_bytes(format, out, in, 1) / 2);
    ASSERT_EQ(packed.size(), 3 * alone.size());
    pack_panels(whole, weights.data(), out, in, 1, alone.data());
    pack_panels(format, weights.data(), out, in, 1, packed.data());
    const View view = packed_view(format, packed.data(), out, in, 1);
    const int64_t of_piece = view.extent(0) * view.extent(1) / 3;
    for (int64_t o = 0; o < out; o++) {
        for (int64_t c = 0; c < in; c++) {
            const int64_t in_panel = c / 2 * view.extent(0) + o % 4 * 2 + c % 2;
            double sum = 0;
            for (int64_t piece = 0; piece < 3; piece++) {
                sum += bf16_to_f32(packed[(o / 4 * 3 + piece) * of_piece + in_panel]);
            }
            EXPECT_EQ(sum, weights[o * in + c]) << "output " << o << " input " << c;
            EXPECT_EQ(packed[o / 4 * 3 * of_piece + in_panel], alone[o / 4 * of_piece + in_panel]);
        }
    }
}

}  // namespace

}  // namespace moa
