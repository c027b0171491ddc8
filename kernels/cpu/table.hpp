// The table of a path: included last by its path file, after its `linear`. A constant:
// nothing of an instruction set's file may run at start-up on a machine that lacks it.
#pragma once
#include "attend.hpp"
#include "encode.hpp"
#include "gate.hpp"
#include "linear_float.hpp"
#include "norm.hpp"
#include "panels.hpp"
#include "quantize.hpp"
#include "rope.hpp"
#include "scan.hpp"

namespace tokenworks::kernels::TW_PATH {

static constexpr CpuOps make_table(const char* name) {
  CpuOps t{};
  t.name = name;
  t.quantize = quantize;
  t.norm = norm;
  t.linear = linear;
  t.linear_float = linear_float;
  t.embed = embed;
  t.rope_and_store = rope_and_store;
  t.attend = attend;
  t.attend_begin = attend_begin;
  t.attend_merge = attend_merge;
  t.attend_finish = attend_finish;
  t.gate = gate;
  t.layer_norm = layer_norm;
  t.activate = activate;
  t.argmax = argmax;
  t.exponentials = exponentials;
  return t;
}

}  // namespace tokenworks::kernels::TW_PATH
