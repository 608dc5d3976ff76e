// Apart from handle.h, because TorchScript's headers take long to compile.
#pragma once

#include "bindings/handle.h"
#include "metrics/feature_network.h"

namespace trislot {

template <>
struct HandleKind<FeatureNetwork> {
  static constexpr const char* kName = "feature network";
  static constexpr napi_type_tag kTag = {0x7472697300000010, 0x6c6f740000000010};
};

}  // namespace trislot
