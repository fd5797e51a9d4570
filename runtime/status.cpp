#include "moa/status.h"

namespace moa {

std::string_view name_of(Code code) {
    switch (code) {
    case Code::ok:
        return "ok";
    case Code::invalid_argument:
        return "invalid argument";
    case Code::unsupported:
        return "unsupported";
    case Code::not_found:
        return "not found";
    case Code::io_error:
        return "io error";
    case Code::out_of_memory:
        return "out of memory";
    case Code::device_error:
        return "device error";
    case Code::internal:
        return "internal error";
    }
    return "unknown";
}

}  // namespace moa
