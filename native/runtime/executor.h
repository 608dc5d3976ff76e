// One thread that owns LibTorch. Jobs run in the order in which they were submitted.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace trislot {

// Move-only on purpose: a std::function would copy the tensors and buffers that a job carries.
struct Job {
  virtual ~Job() = default;
  virtual void run() = 0;
};

class Executor {
 public:
  Executor();
  ~Executor();  // as stop()

  void submit(std::unique_ptr<Job> job);

  // Lets the running job finish, drops the ones that wait, joins the thread. May be called twice.
  void stop();

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace trislot
