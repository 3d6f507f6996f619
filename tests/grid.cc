// SPDX-License-Identifier: Apache-2.0
#include "grid.hh"

#include <iterator>

#include "executors.hh"

namespace bnorm_tests {
namespace {

struct Types {
  bnorm_type data, output, param, stats;
};
constexpr Types kTypes[] = {
    {BNORM_F32, BNORM_F32, BNORM_F32, BNORM_F64},   {BNORM_F32, BNORM_F32, BNORM_F32, BNORM_F32},
    {BNORM_F32, BNORM_F32, BNORM_F64, BNORM_F64},   {BNORM_F32, BNORM_F32, BNORM_F64, BNORM_F32},
    {BNORM_F32, BNORM_F32, BNORM_BF16, BNORM_F64},  {BNORM_F32, BNORM_F32, BNORM_F16, BNORM_F32},
    {BNORM_F64, BNORM_F64, BNORM_F64, BNORM_F64},   {BNORM_F64, BNORM_F64, BNORM_F32, BNORM_F64},
    {BNORM_F64, BNORM_F64, BNORM_F64, BNORM_F32},   {BNORM_F64, BNORM_F64, BNORM_F16, BNORM_F64},
    {BNORM_BF16, BNORM_BF16, BNORM_F32, BNORM_F64}, {BNORM_BF16, BNORM_BF16, BNORM_F32, BNORM_F32},
    {BNORM_BF16, BNORM_BF16, BNORM_F64, BNORM_F64}, {BNORM_BF16, BNORM_BF16, BNORM_BF16, BNORM_F32},
    {BNORM_F16, BNORM_F16, BNORM_F32, BNORM_F32},   {BNORM_F16, BNORM_F16, BNORM_F16, BNORM_F64},
    {BNORM_BF16, BNORM_F32, BNORM_F32, BNORM_F32},  {BNORM_F32, BNORM_BF16, BNORM_F32, BNORM_F64},
    {BNORM_F16, BNORM_F32, BNORM_F32, BNORM_F64},   {BNORM_F32, BNORM_F16, BNORM_F64, BNORM_F32},
    {BNORM_BF16, BNORM_F16, BNORM_F32, BNORM_F64},  {BNORM_F16, BNORM_BF16, BNORM_BF16, BNORM_F64},
};

// Around the vector width 16 and its halves, and the grain of 64 channels.
constexpr int64_t kChannels[] = {1, 2, 3, 5, 15, 16, 17, 31, 33, 64, 65, 100};

struct Samples {
  int64_t n, s;
};
// Around the octet (8), the strip (16), and the block of 64 strips: one block and two, three blocks and a rest.
constexpr Samples kSamples[] = {
    {1, 1},   {2, 1},   {7, 1},   {8, 1},   {1023, 1}, {1024, 1}, {1025, 1}, {3073, 1}, {3, 2},
    {513, 2}, {5, 3},   {257, 3}, {256, 4}, {300, 4},  {129, 5},  {128, 7},  {129, 7},  {128, 8},
    {129, 8}, {9, 8},   {1, 9},   {65, 9},  {64, 15},  {4, 15},   {64, 16},  {65, 16},  {3, 17},
    {33, 17}, {2, 31},  {33, 31}, {5, 49},  {16, 49},  {17, 49},  {1, 64},   {33, 64},  {1, 196},
    {5, 196}, {6, 196}, {2, 784}, {4, 784}, {1, 1023}, {1, 1024}, {1, 1025}, {1, 2049}, {3, 1024},
};

struct Groups {
  int64_t g;
  bnorm_running_mode mode;
};
constexpr Groups kGroups[] = {
    {1, BNORM_RUNNING_UNSET},      {1, BNORM_RUNNING_MEAN},       {2, BNORM_RUNNING_PER_GROUP},
    {2, BNORM_RUNNING_SEQUENTIAL}, {2, BNORM_RUNNING_MEAN},       {3, BNORM_RUNNING_MEAN},
    {3, BNORM_RUNNING_PER_GROUP},  {3, BNORM_RUNNING_SEQUENTIAL}, {1, BNORM_RUNNING_PER_GROUP}};

/// What activations are told beyond what INIT sets.
struct Parameters {
  double clip_lower, clip_upper, leaky_slope, elu_alpha;
};
constexpr Parameters kParameters[] = {{0, 6, 0.01, 1}, {-2, 0.5, 0.25, 0.75}, {0.25, 1, 3, 2}, {-1, 0, 1, 0}};

constexpr unsigned kNulls[] = {0,
                               kNoScale | kNoRunningMean | kNoDresidual | kNoDshift,
                               kNoShift | kNoRunningVar | kNoDx,
                               kNoScale | kNoShift | kNoSaved | kNoDscale,
                               kNoSaved | kNoRunningMean | kNoRunningVar | kNoDscale | kNoDshift,
                               kNoDscale | kNoDresidual};

struct Distribution {
  double mu, sigma;
};
constexpr Distribution kDistributions[] = {{0, 1}, {3, 0.5}, {1000, 1}};

enum Factor : size_t {
  kFOperation,
  kFLayout,
  kFTypes,
  kFChannels,
  kFSamples,
  kFExecutor,
  kFGroups,
  kFNulls,
  kFDistribution,
  kFActivation,
  kFResidual,
  kFInPlace,
  kFMisalignment,
  kFPartialBatch,
  kFPerGroup,
  kFFrozen,
  kFBiased,
  kFWorkspace,
  kFWeights,
  kFMask,
  kFParameters,
  kFFromResidual,
};

// Most calls have none.
constexpr Weights kWeightings[] = {Weights::kNone, Weights::kNone, Weights::kFrequency, Weights::kReliability,
                                   Weights::kLengths};

}  // namespace

std::vector<size_t> grid_levels() {
  return {kOperations,
          kLayouts,
          std::size(kTypes),
          std::size(kChannels),
          std::size(kSamples),
          executors().size(),
          std::size(kGroups),
          std::size(kNulls),
          std::size(kDistributions),
          kActivations,
          2,
          2,
          3,
          2,
          2,
          2,
          2,
          2,
          std::size(kWeightings),
          2,
          std::size(kParameters),
          2};
}

GridCase grid_case(const Row& row, size_t number) {
  GridCase r;
  r.operation = static_cast<Operation>(row[kFOperation]);
  r.executor = row[kFExecutor];
  Case& c = r.config;
  const Types& types = kTypes[row[kFTypes]];
  const Samples& samples = kSamples[row[kFSamples]];
  c.data = types.data;
  c.output = types.output;
  c.param = types.param;
  c.stats = types.stats;
  c.layout = static_cast<Layout>(row[kFLayout]);
  c.shape = {kGroups[row[kFGroups]].g, samples.n, kChannels[row[kFChannels]], samples.s};
  c.mode = kGroups[row[kFGroups]].mode;
  if (row[kFPartialBatch] != 0) {
    c.batch = samples.n;
    c.shape.n += 3;
  }
  c.nulls = kNulls[row[kFNulls]];
  c.mu = kDistributions[row[kFDistribution]].mu;
  c.sigma = kDistributions[row[kFDistribution]].sigma;
  c.activation = static_cast<bnorm_activation>(row[kFActivation]);
  c.residual = row[kFResidual] != 0;
  c.in_place = row[kFInPlace] != 0;
  c.misalignment = row[kFMisalignment];
  c.params_per_group = row[kFPerGroup] != 0;
  c.frozen = row[kFFrozen] != 0;
  c.biased = row[kFBiased] != 0;
  c.give_workspace = row[kFWorkspace] != 0;
  c.weights = kWeightings[row[kFWeights]];
  c.mask = row[kFMask] != 0;
  c.from_residual = row[kFFromResidual] != 0;
  const Parameters& parameters = kParameters[row[kFParameters]];
  c.clip_lower = parameters.clip_lower;
  c.clip_upper = parameters.clip_upper;
  c.leaky_slope = parameters.leaky_slope;
  c.elu_alpha = parameters.elu_alpha;
  c.seed = number + 1;
  return r;
}

std::vector<GridCase> pairwise_grid() {
  std::vector<GridCase> r;
  for (const Row& row : Pairwise(grid_levels()).rows()) r.push_back(grid_case(row, r.size()));
  return r;
}

}  // namespace bnorm_tests
