// Lookups of float32 and float16 tables on CPUs, and their update by row-wise Adagrad: what cpu_tables.py calls.
//
// A batch is T features of B bags each: bag b of feature t holds ids[offsets[t * B + b]] to ids[offsets[t * B + b + 1]].
// Feature t has rows of dims[t + 1] - dims[t] numbers, of which number 0 of row 0 is weights[starts[t]].
// Work is dealt to threads by bag (lookups) or by row (updates), so their number changes no result.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
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

#ifdef __FLT16_MAX__
using Half = _Float16;
constexpr bool KNOWS_HALF = true;
#else
using Half = float;  // never used: callers ask knows_half
constexpr bool KNOWS_HALF = false;
#endif

template <typename Weight>
inline void ask_for(const Weight* row, int64_t dim) {
  for (int64_t d = 0; d < dim; d += 64 / sizeof(Weight)) __builtin_prefetch(row + d);
}

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// One of the two float16 numbers around a value, the nearer one the more often, so that small steps add up. What decides
// is made of the value, of the gradient, whose last bits are never twice the same, and of the row's momentum: neither threads
// nor other rows have a part in it.
inline float rounded_by_chance(float value, uint32_t of_step) {
  constexpr float LEAST_NORMAL = 6.103515625e-5f, LEAST = 5.9604644775390625e-8f;
  uint32_t chance = (bits_of(value) ^ of_step) * 0x9E3779B1u;
  chance = (chance ^ (chance >> 15)) * 0x85EBCA77u;
  chance = (chance ^ (chance >> 13)) * 0xC2B2AE3Du;
  chance ^= chance >> 16;
  // Thirteen bits more than a float16 keeps, where it has a leading one; below, its numbers lie evenly.
  const uint32_t up = (bits_of(value) + (chance & 0x1FFFu)) & ~0x1FFFu;
  float normal;
  std::memcpy(&normal, &up, sizeof normal);
  const float even = std::floor(value / LEAST + static_cast<float>(chance >> 8) * 0x1p-24f) * LEAST;
  return std::fabs(value) < LEAST_NORMAL ? even : normal;
}

inline void put(float& weight, float value, uint32_t) { weight = value; }
#ifdef __FLT16_MAX__
inline void put(Half& weight, float value, uint32_t of_step) {
  weight = static_cast<Half>(rounded_by_chance(value, of_step));
}
#endif

// WIDTH 0: any.
template <typename Weight, int WIDTH>
void pool(const Features& f, int64_t t, int64_t first, int64_t last, const Weight* weights, float* out, int64_t stride) {
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
      const Weight* row = weights + f.ids[at] * dim;
      for (int64_t d = 0; d < dim; ++d) sum[d] += static_cast<float>(row[d]);
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

template <typename Weight, int WIDTH>
void update(const Features& f, int64_t first, int64_t last, int64_t thread, int64_t threads, const float* gradient,
            int64_t stride, Weight* weights, float* momentum, float rate, float epsilon, float decay, Gradients& found) {
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
    Weight* weight = weights + row * dim;
    const uint32_t of_row = bits_of(momentum[row]) * 0xC2B2AE3Du;
    for (int64_t d = 0; d < dim; ++d) {
      const uint32_t of_step = (of_row ^ bits_of(sum[d])) * 0x9E3779B1u;
      put(weight[d], kept * static_cast<float>(weight[d]) - step * sum[d], of_step);
    }
  }
}

template <typename Weight>
void pool_all(const Features* f, const Weight* weights, float* out, int64_t stride, int64_t threads) {
  on_threads(threads, [=](int64_t thread) {
    const int64_t first = f->bags * thread / threads, last = f->bags * (thread + 1) / threads;
    for (int64_t t = 0; t < f->count; ++t) {
      const int64_t dim = f->dims[t + 1] - f->dims[t];
      auto work = dim == 16   ? pool<Weight, 16>
                  : dim == 32 ? pool<Weight, 32>
                  : dim == 64 ? pool<Weight, 64>
                              : pool<Weight, 0>;
      work(*f, t, first, last, weights + f->starts[t], out, stride);
    }
  });
}

template <typename Weight>
void update_all(const Features* f, const float* gradient, int64_t stride, Weight* weights, float* momentum,
                const int64_t* momentum_starts, float rate, float epsilon, float decay, int64_t threads) {
  static std::mutex one_at_a_time;
  static std::vector<Gradients> of_threads;
  std::lock_guard<std::mutex> lock(one_at_a_time);
  if (static_cast<int64_t>(of_threads.size()) < threads) of_threads.resize(threads);
  on_threads(threads, [=](int64_t thread) {
    for (int64_t first = 0, last; first < f->count; first = last) {
      last = f->after(first);
      const int64_t dim = f->dims[first + 1] - f->dims[first];
      auto work = dim == 16   ? update<Weight, 16>
                  : dim == 32 ? update<Weight, 32>
                  : dim == 64 ? update<Weight, 64>
                              : update<Weight, 0>;
      work(*f, first, last, thread, threads, gradient, stride, weights + f->starts[first],
           momentum + momentum_starts[first], rate, epsilon, decay, of_threads[thread]);
    }
  });
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

// Whether the compiler has float16.
bool knows_half() { return KNOWS_HALF; }

void pooled(const Features* f, const void* weights, bool half, float* out, int64_t stride, int64_t threads) {
  if (half) return pool_all(f, static_cast<const Half*>(weights), out, stride, threads);
  pool_all(f, static_cast<const float*>(weights), out, stride, threads);
}

void rowwise_adagrad(const Features* f, const float* gradient, int64_t stride, void* weights, bool half,
                     float* momentum, const int64_t* momentum_starts, float rate, float epsilon, float decay,
                     int64_t threads) {
  if (half)
    return update_all(f, gradient, stride, static_cast<Half*>(weights), momentum, momentum_starts, rate, epsilon, decay,
                      threads);
  update_all(f, gradient, stride, static_cast<float*>(weights), momentum, momentum_starts, rate, epsilon, decay,
             threads);
}
}
