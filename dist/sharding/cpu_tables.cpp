// Lookups of float32 tables on CPUs, and their update by row-wise Adagrad: what cpu_tables.py calls.
//
// A batch is T features of B bags each: bag b of feature t holds ids[offsets[t * B + b]] to ids[offsets[t * B + b + 1]].
// Feature t has rows of dims[t + 1] - dims[t] numbers, of which number 0 of row 0 is weights[starts[t]].
// Work is dealt to threads by bag (lookups) or by row (updates), so their number changes no result.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr int64_t AHEAD = 16;  // lookups between asking for a row and needing it

struct Features {
  const int64_t *ids, *offsets, *starts, *cumulated_rows;
  const int32_t* dims;
  int64_t count, bags;

  // The first feature after t with another table.
  int64_t after(int64_t t) const {
    int64_t next = t + 1;
    while (next < count && starts[next] == starts[t]) ++next;
    return next;
  }
  int64_t rows(int64_t t) const { return cumulated_rows[after(t)] - cumulated_rows[t]; }
};

template <typename Work>
void on_threads(int64_t threads, Work work) {
  std::vector<std::thread> others;
  for (int64_t thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
  work(0);
  for (auto& other : others) other.join();
}

inline void ask_for(const float* row, int64_t dim) {
  for (int64_t d = 0; d < dim; d += 16) __builtin_prefetch(row + d);
}

// WIDTH 0: any.
template <int WIDTH>
void pool(const Features& f, int64_t t, int64_t first, int64_t last, const float* weights, float* out, int64_t stride) {
  const int64_t dim = WIDTH ? WIDTH : f.dims[t + 1] - f.dims[t];
  const int64_t* offsets = f.offsets + t * f.bags;
  const int64_t end = offsets[last];
  for (int64_t bag = first; bag < last; ++bag) {
    float* target = out + bag * stride + f.dims[t];
    float kept[WIDTH ? WIDTH : 1];
    float* sum = WIDTH ? kept : target;
    std::fill(sum, sum + dim, 0.0f);
    for (int64_t at = offsets[bag]; at < offsets[bag + 1]; ++at) {
      if (at + AHEAD < end) ask_for(weights + f.ids[at + AHEAD] * dim, dim);
      const float* row = weights + f.ids[at] * dim;
      for (int64_t d = 0; d < dim; ++d) sum[d] += row[d];
    }
    if (WIDTH) std::copy(sum, sum + dim, target);
  }
}

// The rows one thread updates, each with its gradient; found by hashing. Kept, since new memory is slow.
struct Gradients {
  struct Place {
    int64_t row;
    uint32_t round;  // that the place was taken in; older ones are free
    int32_t slot;
  };
  std::vector<Place> places;
  std::vector<int64_t> rows;
  std::vector<float> sums;
  uint32_t round = 0;
};

inline uint64_t hashed(int64_t row) { return static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15ull; }

template <int WIDTH>
void update(const Features& f, int64_t first, int64_t last, int64_t thread, int64_t threads, const float* gradient,
            int64_t stride, float* weights, float* momentum, float rate, float epsilon, float decay, Gradients& found) {
  const int64_t dim = WIDTH ? WIDTH : f.dims[first + 1] - f.dims[first];
  const int64_t begin = f.offsets[first * f.bags], end = f.offsets[last * f.bags];
  int bits = 4;
  while ((int64_t{1} << bits) < 2 * std::min(end - begin, f.rows(first))) ++bits;
  const int shift = 64 - bits;
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  if (found.places.size() <= mask) found.places.resize(mask + 1);
  if (++found.round == 0) {
    std::fill(found.places.begin(), found.places.end(), Gradients::Place{});
    found.round = 1;
  }
  found.rows.clear();
  int64_t used = 0;
  for (int64_t t = first; t < last; ++t) {
    for (int64_t bag = 0; bag < f.bags; ++bag) {
      const int64_t from = f.offsets[t * f.bags + bag], to = f.offsets[t * f.bags + bag + 1];
      const float* of_bag = gradient + bag * stride + f.dims[t];
      for (int64_t at = from; at < to; ++at) {
        const int64_t row = f.ids[at];
        if (at + AHEAD < end) __builtin_prefetch(&found.places[hashed(f.ids[at + AHEAD]) >> shift], 1);
        if (threads > 1 && static_cast<int64_t>(((hashed(row) & 0xffffff) * threads) >> 24) != thread) continue;
        uint64_t place = hashed(row) >> shift;
        while (found.places[place].round == found.round && found.places[place].row != row) place = (place + 1) & mask;
        Gradients::Place& taken = found.places[place];
        if (taken.round != found.round) {
          taken = {row, found.round, static_cast<int32_t>(used)};
          found.rows.push_back(row);
          if (static_cast<int64_t>(found.sums.size()) < (used + 1) * dim) found.sums.resize(2 * (used + 1) * dim);
          float* sum = &found.sums[used++ * dim];
          for (int64_t d = 0; d < dim; ++d) sum[d] = of_bag[d];
        } else {
          float* sum = &found.sums[taken.slot * dim];
          for (int64_t d = 0; d < dim; ++d) sum[d] += of_bag[d];
        }
      }
    }
  }
  const float kept = 1.0f - rate * decay;
  for (int64_t slot = 0; slot < used; ++slot) {
    if (slot + AHEAD < used) {
      ask_for(weights + found.rows[slot + AHEAD] * dim, dim);
      __builtin_prefetch(momentum + found.rows[slot + AHEAD], 1);
    }
    const int64_t row = found.rows[slot];
    const float* sum = &found.sums[slot * dim];
    float squares = 0;
    for (int64_t d = 0; d < dim; ++d) squares += sum[d] * sum[d];
    momentum[row] += squares / static_cast<float>(dim);
    const float step = rate / (std::sqrt(momentum[row]) + epsilon);
    float* weight = weights + row * dim;
    for (int64_t d = 0; d < dim; ++d) weight[d] = kept * weight[d] - step * sum[d];
  }
}

}  // namespace

extern "C" {

// Whether every id is a row of its table, and tables come one after the other.
bool in_range(const Features* f) {
  for (int64_t first = 0, last; first < f->count; first = last) {
    last = f->after(first);
    const int64_t begin = f->offsets[first * f->bags], end = f->offsets[last * f->bags];
    uint64_t largest = 0;  // one that is negative becomes larger than any
    for (int64_t at = begin; at < end; ++at) largest = std::max(largest, static_cast<uint64_t>(f->ids[at]));
    const int64_t rows = f->rows(first);
    if (rows < 0 || (end > begin && largest >= static_cast<uint64_t>(rows))) return false;
  }
  return true;
}

void pooled(const Features* f, const float* weights, float* out, int64_t stride, int64_t threads) {
  on_threads(threads, [=](int64_t thread) {
    const int64_t first = f->bags * thread / threads, last = f->bags * (thread + 1) / threads;
    for (int64_t t = 0; t < f->count; ++t) {
      const int64_t dim = f->dims[t + 1] - f->dims[t];
      auto work = dim == 16 ? pool<16> : dim == 32 ? pool<32> : dim == 64 ? pool<64> : pool<0>;
      work(*f, t, first, last, weights + f->starts[t], out, stride);
    }
  });
}

void rowwise_adagrad(const Features* f, const float* gradient, int64_t stride, float* weights, float* momentum,
                     const int64_t* momentum_starts, float rate, float epsilon, float decay, int64_t threads) {
  static std::mutex one_at_a_time;
  static std::vector<Gradients> of_threads;
  std::lock_guard<std::mutex> lock(one_at_a_time);
  if (static_cast<int64_t>(of_threads.size()) < threads) of_threads.resize(threads);
  on_threads(threads, [=](int64_t thread) {
    for (int64_t first = 0, last; first < f->count; first = last) {
      last = f->after(first);
      const int64_t dim = f->dims[first + 1] - f->dims[first];
      auto work = dim == 16 ? update<16> : dim == 32 ? update<32> : dim == 64 ? update<64> : update<0>;
      work(*f, first, last, thread, threads, gradient, stride, weights + f->starts[first],
           momentum + momentum_starts[first], rate, epsilon, decay, of_threads[thread]);
    }
  });
}
}
