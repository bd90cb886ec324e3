#include "report.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

namespace on_cpu {
namespace {

constexpr Place FIRST_LOCATION = 0xf0000000u; // places from here on are entries of `locations`
std::mutex locations_lock;
std::vector<Location> locations;

std::string file_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash ? slash + 1 : path;
}

bool is_kernel_source(const std::string& line) { return line.find(".cu:") != std::string::npos; }

// The innermost inlined frame that stands in a .cu file, else the innermost of all.
std::string source_line(const Image& image, Place place) {
  const std::string command = text("addr2line -i -e '%s' 0x%x 2>/dev/null", image.path.c_str(), place - 1);
  FILE* frames = popen(command.c_str(), "r");
  if (!frames) return text("code offset 0x%x", place);
  std::string found;
  char line[1024];
  while (std::fgets(line, sizeof line, frames)) {
    line[std::strcspn(line, " \n")] = 0;
    const std::string frame = file_name(line);
    if (found.empty() || (is_kernel_source(frame) && !is_kernel_source(found))) found = frame;
  }
  pclose(frames);
  return found.empty() || found[0] == '?' ? text("code offset 0x%x", place) : found;
}

std::string look_up(Place place, const Image& image) {
  const std::lock_guard lock(locations_lock);
  if (place >= FIRST_LOCATION) return text(locations[place - FIRST_LOCATION]);
  static std::map<std::pair<uintptr_t, Place>, std::string> known;
  std::string& line = known[{image.begin, place}];
  if (line.empty()) line = source_line(image, place);
  return line;
}

} // namespace

Image image_of(const void* address) {
  struct Search {
    uintptr_t address;
    Image found;
  } search{reinterpret_cast<uintptr_t>(address), {}};
  const auto visit = [](dl_phdr_info* info, size_t, void* data) {
    auto& [address, found] = *static_cast<Search*>(data);
    uintptr_t begin = UINTPTR_MAX, end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
      const auto& segment = info->dlpi_phdr[i];
      if (segment.p_type != PT_LOAD) continue;
      begin = std::min(begin, info->dlpi_addr + segment.p_vaddr);
      end = std::max(end, info->dlpi_addr + segment.p_vaddr + segment.p_memsz);
    }
    if (address < begin || address >= end) return 0;
    found = {begin, end, info->dlpi_name};
    return 1;
  };
  dl_iterate_phdr(visit, &search);
  return search.found;
}

Place place(Location where) {
  using Key = std::pair<const char*, uint64_t>;
  const Key key{where.file_name(), static_cast<uint64_t>(where.line()) << 32 | where.column()};
  thread_local std::map<Key, Place> seen;
  if (const auto found = seen.find(key); found != seen.end()) return found->second;
  const std::lock_guard lock(locations_lock);
  static std::map<Key, Place> all;
  const auto [entry, is_new] = all.insert({key, FIRST_LOCATION + static_cast<Place>(locations.size())});
  if (is_new) locations.push_back(where);
  return seen[key] = entry->second;
}

bool same(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column() && a.file_name() == b.file_name();
}

std::string text(const char* format, ...) {
  char buffer[2048];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

std::string text(Location where) { return text("%s:%u", file_name(where.file_name()).c_str(), where.line()); }

std::string text(Place place) { return text("{place:%x}", place); }

std::string resolve(std::string message, const Image& image) {
  constexpr char MARK[] = "{place:";
  for (size_t at; (at = message.find(MARK)) != std::string::npos;) {
    const Place place = static_cast<Place>(std::stoul(message.substr(at + sizeof MARK - 1), nullptr, 16));
    message.replace(at, message.find('}', at) - at + 1, look_up(place, image));
  }
  return message;
}

} // namespace on_cpu
