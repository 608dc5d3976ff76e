#include "bindings/functions.h"
#include "bindings/network.h"
#include "runtime/device.h"

namespace trislot {

// unetCreate(config, seed, device): Promise<handle>
Napi::Value unet_create(const Napi::CallbackInfo& info) {
  return submit(
      info.Env(),
      [config = decode_unet_config(info[0].As<Napi::Object>()), seed = decode_integer(info[1]),
       device = decode_string(info[2])] {
        return std::make_shared<UNet>(config, device_named(device), static_cast<uint64_t>(seed));
      },
      wrap_network<UNet>);
}

Napi::Value unet_parameters(const Napi::CallbackInfo& info) { return network_parameters<UNet>(info); }
Napi::Value unet_forward(const Napi::CallbackInfo& info) { return network_forward<UNet>(info); }
Napi::Value unet_forward_grad(const Napi::CallbackInfo& info) { return network_forward_grad<UNet>(info); }
Napi::Value unet_load(const Napi::CallbackInfo& info) { return network_load<UNet>(info); }
Napi::Value unet_save(const Napi::CallbackInfo& info) { return network_save<UNet>(info); }

}  // namespace trislot
