#include "tools/routes_view.h"

#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace moa::tools {

namespace {

constexpr int64_t kTextLabel = 20;

std::vector<int> chosen(const std::vector<int64_t> &indices, int64_t positions) {
    std::vector<int> flags(static_cast<size_t>(positions));
    for (const int64_t index : indices) {
        flags[static_cast<size_t>(index)] = 1;
    }
    return flags;
}

bool printable(char c) {
    return c >= 32 && c <= 126;
}

std::string escaped(char c) {
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    default:
        return printable(c) ? std::string(1, c) : "&#183;";
    }
}

}  // namespace

std::string routes_as_text(const std::vector<LayerRoutes> &layers, const std::string &passage, int64_t columns) {
    const auto positions = static_cast<int64_t>(passage.size());
    columns = std::min(columns, positions);
    std::string result(kTextLabel, ' ');
    for (int64_t n = 0; n < columns; n++) {
        result += printable(passage[n]) ? passage[n] : '.';
    }
    result += "\n";
    for (size_t l = 0; l < layers.size(); l++) {
        for (int64_t e = 0; e < layers[l].experts; e++) {
            const std::vector<int> queries = chosen(layers[l].queries[e], positions), keys = chosen(layers[l].key_values[e], positions);
            result += text("{:<{}}", text("  layer {} expert {}", l, e), kTextLabel);
            for (int64_t n = 0; n < columns; n++) {
                result += queries[n] != 0 ? "█" : (keys[n] != 0 ? "░" : " ");
            }
            result += "\n";
        }
    }
    return result;
}

std::string routes_as_svg(const std::vector<LayerRoutes> &layers, const std::string &passage) {
    static constexpr std::array<std::string_view, 4> kColours{"#1b6ca8", "#c0392b", "#27874a", "#8e5ba6"};
    constexpr int64_t kPerLine = 128, kCell = 9, kLabel = 110, kTop = 40;
    const auto positions = static_cast<int64_t>(passage.size());
    int64_t rows = 0;
    for (const LayerRoutes &layer : layers) {
        rows += layer.experts;
    }
    const int64_t lines = (positions + kPerLine - 1) / kPerLine, line_height = (rows + 3) * kCell;
    std::string svg = text("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"monospace\" font-size=\"9\">\n"
                           "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"20\" font-size=\"13\">"
                           "Routed positions by layer and expert: filled = query, outlined = key and value only</text>\n",
                           kLabel + kPerLine * kCell + 20, kTop + lines * line_height);
    for (int64_t line = 0; line < lines; line++) {
        const int64_t first = line * kPerLine, last = std::min(positions, first + kPerLine), y0 = kTop + line * line_height;
        int64_t row = 0;
        for (size_t l = 0; l < layers.size(); l++) {
            for (int64_t e = 0; e < layers[l].experts; e++, row++) {
                const std::vector<int> queries = chosen(layers[l].queries[e], positions), keys = chosen(layers[l].key_values[e], positions);
                const std::string_view colour = kColours[static_cast<size_t>(e) % kColours.size()];
                svg += text("<text x=\"10\" y=\"{}\">layer {} expert {}</text>\n", y0 + row * kCell + 8, l, e);
                for (int64_t n = first; n < last; n++) {
                    if (queries[n] != 0 || keys[n] != 0) {
                        svg += text("<rect x=\"{}\" y=\"{}\" width=\"7\" height=\"7\" fill=\"{}\" stroke=\"{}\" stroke-width=\"0.6\"/>\n",
                                    kLabel + (n - first) * kCell, y0 + row * kCell + 1, queries[n] != 0 ? colour : "none", colour);
                    }
                }
            }
        }
        for (int64_t n = first; n < last; n++) {
            svg += text("<text x=\"{}\" y=\"{}\">{}</text>\n", kLabel + (n - first) * kCell + 1, y0 + rows * kCell + 10, escaped(passage[n]));
        }
    }
    return svg + "</svg>\n";
}

}  // namespace moa::tools
