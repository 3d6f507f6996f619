// SPDX-License-Identifier: Apache-2.0
// Every kernel of one ISA, inside its namespace: all with internal linkage, so that no copy compiled with this ISA's
// flags can be linked into code for another. BNORM_LANES_FILE names the ISA's lanes. The order is that of use.
#pragma once
// clang-format off
#include "lanes.inl.hh"
#include "convert.inl.hh"
#include "operands.inl.hh"
#include "operations.inl.hh"
#include "rows.inl.hh"
#include "rows_reduce.inl.hh"
#include "rows_map.inl.hh"
#include "columns.inl.hh"
#include "columns_reduce.inl.hh"
#include "columns_map.inl.hh"
#include "scattered.inl.hh"
#include "channels.inl.hh"
#include "activations.inl.hh"
#include "table.inl.hh"
// clang-format on
