// SPDX-License-Identifier: Apache-2.0
// Assembles an ISA's kernel table from operations x families.
#pragma once

template <class Op>
static constexpr void fill_reduce(TileKernel* family) {
  family[kRows] = reduce_rows<Op>;
  family[kColumns] = reduce_columns<Op, kColumns>;
  family[kColumnsNarrow] = reduce_columns<Op, kColumnsNarrow>;
  family[kColumnsPlanar] = reduce_columns<Op, kColumnsPlanar>;
  family[kScattered] = reduce_scattered<Op>;
}

/// A map, and what its stores around the cache take to be seen by other threads.
template <TileKernel map>
static void visible(const Tile& t) {
  map(t);
  if (t.stream) finish_stores();
}

template <class Op>
static constexpr void fill_map(TileKernel* family) {
  family[kRows] = visible<map_rows<Op>>;
  family[kColumns] = visible<map_columns<Op>>;
  family[kColumnsNarrow] = visible<map_columns_narrow<Op>>;
  family[kColumnsPlanar] = visible<map_columns_planar<Op>>;
  family[kScattered] = map_scattered<Op>;
}

template <class T, Mask mask>
static constexpr void fill_mask(KernelTable& t, int type) {
  fill_reduce<GradientSums<T, mask>>(t.gradient_sums[type][mask]);
  fill_map<Gradient<T, mask, false>>(t.gradient[type][mask][0]);
  fill_map<Gradient<T, mask, true>>(t.gradient[type][mask][1]);
}

template <class T>
static constexpr void fill_type(KernelTable& t, int type) {
  fill_reduce<Moments<T>>(t.moments[type]);
  fill_map<Normalize<T, false>>(t.normalize[type][0]);
  fill_map<Normalize<T, true>>(t.normalize[type][1]);
  fill_mask<T, kMaskNone>(t, type);
  fill_mask<T, kMaskX>(t, type);
  fill_mask<T, kMaskY>(t, type);
}

static constexpr KernelTable make_table(const char* name) {
  KernelTable t = {};
  t.name = name;
  fill_type<float>(t, 0);
  fill_type<double>(t, 1);
  fill_type<Bf16>(t, 2);
  t.merge_moments = merge_moments;
  t.merge_sums = merge_sums;
  t.finalize = finalize;
  t.prepare_saved[0][0] = prepare_saved<float, float>;
  t.prepare_saved[0][1] = prepare_saved<float, double>;
  t.prepare_saved[1][0] = prepare_saved<double, float>;
  t.prepare_saved[1][1] = prepare_saved<double, double>;
  t.prepare_running[0][0] = prepare_running<float, float>;
  t.prepare_running[0][1] = prepare_running<float, double>;
  t.prepare_running[1][0] = prepare_running<double, float>;
  t.prepare_running[1][1] = prepare_running<double, double>;
  t.running_entry = running_entry;
  t.blend[0] = blend<float>;
  t.blend[1] = blend<double>;
  t.prepare_gradient[0] = prepare_gradient<float>;
  t.prepare_gradient[1] = prepare_gradient<double>;
  t.param_gradients[0] = param_gradients<float>;
  t.param_gradients[1] = param_gradients<double>;
  return t;
}
