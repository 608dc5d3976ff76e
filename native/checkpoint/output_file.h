// A file that takes its name only when it is complete: until then, and after a failure, what was there before
// stays.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "checkpoint/input_file.h"

namespace trislot {

class OutputFile {
 public:
  OutputFile(const std::string& call, const std::string& path) : call_(call_with(call, path)), path_(path) {
    static std::atomic<int> count{0};
    partial_ = path + "." + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".partial";
    ::unlink(partial_.c_str());  // of a process that died with the same id
    descriptor_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail("to create " + show(partial_));
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  ~OutputFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!complete_) ::unlink(partial_.c_str());
  }

  void write(const void* from, uint64_t bytes) {
    const auto* at = static_cast<const char*>(from);
    while (bytes > 0) {
      const auto part = static_cast<size_t>(std::min<uint64_t>(bytes, uint64_t{1} << 30));
      const auto done = ::write(descriptor_, at, part);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail("to write " + std::to_string(bytes) + " bytes more");
      at += done;
      bytes -= static_cast<uint64_t>(done);
    }
  }

  void commit() {
    if (::fsync(descriptor_) != 0) fail("to sync the file");
    if (::close(std::exchange(descriptor_, -1)) != 0) fail("to close the file");
    if (::rename(partial_.c_str(), path_.c_str()) != 0) fail("to rename " + show(partial_));
    complete_ = true;
    // The new name itself is only safe from a power cut once its folder is on the disk.
    const auto slash = path_.rfind('/');
    const auto folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path_.substr(0, slash);
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
    const int code = errno;
    if (descriptor >= 0) ::close(descriptor);
    // Some filesystems cannot sync folders; a folder may be writable and not readable.
    if (!synced && code != EINVAL && code != EACCES) {
      errno = code;
      fail("to sync the folder");
    }
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    const auto reason = error_text(errno);
    throw FileError(call_ + ": expected " + expected + ", got " + reason);
  }

  std::string call_, path_, partial_;
  int descriptor_ = -1;
  bool complete_ = false;
};

}  // namespace trislot
