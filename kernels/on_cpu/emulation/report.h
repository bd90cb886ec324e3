// What goes wrong, in words. A place in a kernel is a number until somebody reads about it: an offset into the code of the
// kernel's shared object, or a location that a wrapper was given.
#pragma once
#include <cstdint>
#include <source_location>
#include <string>

namespace on_cpu {
using Location = std::source_location;
using Place = uint32_t;

// The shared object of a kernel.
struct Image {
  uintptr_t begin = 0, end = 0;
  std::string path;

  bool holds(uintptr_t address, size_t bytes) const { return address >= begin && address + bytes <= end; }
  Place place(const void* return_address) const {
    return static_cast<Place>(reinterpret_cast<uintptr_t>(return_address) - begin);
  }
};
Image image_of(const void* address);

Place place(Location where);
bool same(const Location& a, const Location& b);

// printf into a string.
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
// "file.cu:12"
std::string text(Location where);
// A mark that `resolve` replaces by "file.cu:12".
std::string text(Place place);
std::string resolve(std::string message, const Image& image);

} // namespace on_cpu
