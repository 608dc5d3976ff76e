// Precompiled: the tensor type and the operators that most files call.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>
