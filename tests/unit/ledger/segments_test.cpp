#include "ledger/segments.hpp"

#include <gtest/gtest.h>
