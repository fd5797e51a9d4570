#include "runtime/view.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>

namespace moa {

namespace {

class ViewTest : public testing::Test {
public:
    ViewTest() {
        std::iota(data_.begin(), data_.end(), 0.f);
    }

protected:
    static float first(const View &view) {
        return *static_cast<const float *>(view.data);
    }
    static void expect_axis(const View &view, int axis, int64_t extent, int64_t stride) {
        EXPECT_EQ(view.extent(axis), extent);
        EXPECT_EQ(view.axes[axis].stride, stride);
    }

    std::array<float, 120> data_{};
    View view_ = View::dense(data_.data(), DType::f32, {4, 6, 5});
};

TEST_F(ViewTest, DenseIsInnermostFirst) {
    EXPECT_EQ(view_.rank, 3);
    expect_axis(view_, 0, 4, 1);
    expect_axis(view_, 1, 6, 4);
    expect_axis(view_, 2, 5, 24);
}

TEST_F(ViewTest, OfATensorReversesItsAxes) {
    TensorView tensor(data_.data(), DType::f32, {5, 6, 4});
    tensor.strides[0] = 0;
    const View view = View::of(tensor);
    ASSERT_EQ(view.rank, 3);
    expect_axis(view, 0, 4, 1);
    expect_axis(view, 1, 6, 4);
    expect_axis(view, 2, 5, 0);
    EXPECT_EQ(View::of(TensorView(data_.data(), DType::f32, {})).rank, 0);
}

TEST_F(ViewTest, CropMovesToTheBeginning) {
    const View view = view_.crop(1, 2, 3);
    expect_axis(view, 1, 3, 4);
    EXPECT_EQ(first(view), 8);
    EXPECT_EQ(view_.crop(1, 6, 0).extent(1), 0);
}

TEST_F(ViewTest, SplitMakesTwoAxesOfOne) {
    const View view = view_.split(1, 2);
    ASSERT_EQ(view.rank, 4);
    expect_axis(view, 0, 4, 1);
    expect_axis(view, 1, 2, 4);
    expect_axis(view, 2, 3, 8);
    expect_axis(view, 3, 5, 24);
}

TEST_F(ViewTest, InsertAddsABroadcastAxis) {
    const View view = view_.insert(0, {7, 0});
    ASSERT_EQ(view.rank, 4);
    expect_axis(view, 0, 7, 0);
    expect_axis(view, 1, 4, 1);
    expect_axis(view, 3, 5, 24);
    expect_axis(view_.insert(3, {2, 9}), 3, 2, 9);
}

TEST_F(ViewTest, PickDropsAnAxis) {
    const View view = view_.pick(1, 3);
    ASSERT_EQ(view.rank, 2);
    expect_axis(view, 1, 5, 24);
    EXPECT_EQ(first(view), 12);
    EXPECT_EQ(first(view_.pick(2, 4).pick(1, 5).pick(0, 3)), 119);
}

TEST_F(ViewTest, SwapExchangesAxes) {
    const View view = view_.swap(0, 2);
    expect_axis(view, 0, 5, 24);
    expect_axis(view, 2, 4, 1);
    EXPECT_EQ(first(view), 0);
}

TEST_F(ViewTest, ViewsWithoutMemoryStayWithout) {
    const View none = View::dense(nullptr, DType::bf16, {4, 4});
    EXPECT_EQ(none.crop(1, 2, 2).data, nullptr);
    EXPECT_EQ(none.at(3).data, nullptr);
}

TEST_F(ViewTest, OffsetsCountElementsOfTheDtype) {
    const View bytes(data_.data(), DType::u8, {{8, 1}});
    EXPECT_EQ(static_cast<std::byte *>(bytes.at(5).data) - reinterpret_cast<std::byte *>(data_.data()), 5);
    const View doubles(data_.data(), DType::f64, {{8, 1}});
    EXPECT_EQ(static_cast<std::byte *>(doubles.at(5).data) - reinterpret_cast<std::byte *>(data_.data()), 40);
}

}  // namespace

}  // namespace moa
