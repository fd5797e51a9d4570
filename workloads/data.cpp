#include "workloads/data.h"

namespace moa::workloads {

Array normal_array(Random &random, const Extents &extents, double deviation) {
    Array result(extents);
    for (double &value : result.data) {
        value = deviation * random.normal();
    }
    return result;
}

Array integer_array(Random &random, const Extents &extents, int64_t magnitude) {
    Array result(extents);
    for (double &value : result.data) {
        value = static_cast<double>(random.integer(magnitude));
    }
    return result;
}

Array data_array(Random &random, const Extents &extents, bool exact, double deviation) {
    return exact ? integer_array(random, extents, 2) : normal_array(random, extents, deviation);
}

Array mask_array(Random &random, const Extents &extents, Mask kind) {
    Array result(extents, 1);
    const int64_t length = extents[0];
    const auto elements = static_cast<int64_t>(result.data.size());
    for (int64_t place = 0; place < elements; place++) {
        const int64_t position = place % length, row = place / length;
        const bool drawn = random.chance(2.0 / 3);
        const bool valid = kind == Mask::none || (kind == Mask::random && drawn) ||
                           (kind == Mask::rows && row % 2 == 1 && drawn) ||
                           (kind == Mask::last && position == length - 1) ||
                           (kind == Mask::padding && position < length - length / 2);
        result.data[place] = valid ? 1 : 0;
    }
    return result;
}

}  // namespace moa::workloads
