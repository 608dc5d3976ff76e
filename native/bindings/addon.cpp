// The table of contents: every name that JavaScript can call. lib/native.ts declares the same names.
#include "bindings/environment.h"
#include "bindings/error.h"
#include "bindings/functions.h"
#include "runtime/memory.h"

namespace trislot {
namespace {

// A C++ exception of the synchronous part of a call becomes a JavaScript error here.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return Function(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_javascript_error(info.Env(), describe(std::current_exception()));
  }
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  count_cpu_memory();
  env.SetInstanceData(new Environment(env));
#define TRISLOT_EXPORT(name, function) exports.Set(name, Napi::Function::New<guarded<function>>(env, name))
  TRISLOT_EXPORT("version", version);
  TRISLOT_EXPORT("shutdown", trislot::shutdown);
  TRISLOT_EXPORT("runtimeInfo", runtime_info);
  TRISLOT_EXPORT("selfTest", self_test);
  TRISLOT_EXPORT("threadsSet", threads_set);
  TRISLOT_EXPORT("kernelsChoose", kernels_choose);
  TRISLOT_EXPORT("memoryCount", memory_count);
  TRISLOT_EXPORT("memoryResetPeak", memory_reset_peak);
  TRISLOT_EXPORT("deviceCheck", device_check);
  TRISLOT_EXPORT("handleDispose", handle_dispose);
  TRISLOT_EXPORT("tensorFromHost", tensor_from_host);
  TRISLOT_EXPORT("tensorToHost", tensor_to_host);
  TRISLOT_EXPORT("tensorShape", tensor_shape);
  TRISLOT_EXPORT("tensorNoise", tensor_noise);
  TRISLOT_EXPORT("tensorDropoutMask", tensor_dropout_mask);
  TRISLOT_EXPORT("fileRead", file_read);
  TRISLOT_EXPORT("fileWrite", file_write);
  TRISLOT_EXPORT("fileInspect", file_inspect);
  TRISLOT_EXPORT("fileConvert", file_convert);
  TRISLOT_EXPORT("scheduleCreate", schedule_create);
  TRISLOT_EXPORT("scheduleRespace", schedule_respace);
  TRISLOT_EXPORT("scheduleTables", schedule_tables);
  TRISLOT_EXPORT("scheduleQSample", schedule_q_sample);
  TRISLOT_EXPORT("scheduleLossFactors", schedule_loss_factors);
  TRISLOT_EXPORT("unetCreate", unet_create);
  TRISLOT_EXPORT("unetParameters", unet_parameters);
  TRISLOT_EXPORT("unetForward", unet_forward);
  TRISLOT_EXPORT("unetForwardGrad", unet_forward_grad);
  TRISLOT_EXPORT("unetLoad", unet_load);
  TRISLOT_EXPORT("unetSave", unet_save);
  TRISLOT_EXPORT("classifierCreate", classifier_create);
  TRISLOT_EXPORT("classifierParameters", classifier_parameters);
  TRISLOT_EXPORT("classifierForward", classifier_forward);
  TRISLOT_EXPORT("classifierForwardGrad", classifier_forward_grad);
  TRISLOT_EXPORT("classifierLoad", classifier_load);
  TRISLOT_EXPORT("classifierSave", classifier_save);
  TRISLOT_EXPORT("classifierGradient", classifier_gradient);
  TRISLOT_EXPORT("classifierTrainerCreate", classifier_trainer_create);
  TRISLOT_EXPORT("classifierTrainerStep", classifier_trainer_step);
  TRISLOT_EXPORT("classifierTrainerEvaluate", classifier_trainer_evaluate);
  TRISLOT_EXPORT("classifierTrainerStepCount", classifier_trainer_step_count);
  TRISLOT_EXPORT("classifierTrainerSave", classifier_trainer_save);
  TRISLOT_EXPORT("classifierTrainerLoad", classifier_trainer_load);
  TRISLOT_EXPORT("trainerCreate", trainer_create);
  TRISLOT_EXPORT("trainerStep", trainer_step);
  TRISLOT_EXPORT("trainerStepCount", trainer_step_count);
  TRISLOT_EXPORT("trainerSave", trainer_save);
  TRISLOT_EXPORT("trainerLoad", trainer_load);
  TRISLOT_EXPORT("trainerAveraged", trainer_averaged);
  TRISLOT_EXPORT("lossEvaluate", loss_evaluate);
  TRISLOT_EXPORT("lossOfOutput", loss_of_output);
  TRISLOT_EXPORT("lossShapes", loss_shapes);
  TRISLOT_EXPORT("lossGradientGram", loss_gradient_gram);
  TRISLOT_EXPORT("denoiserPredict", denoiser_predict);
  TRISLOT_EXPORT("denoiserInterpret", denoiser_interpret);
  TRISLOT_EXPORT("reverseAncestral", reverse_ancestral);
  TRISLOT_EXPORT("reverseDdim", reverse_ddim);
  TRISLOT_EXPORT("guidedXStart", guided_x_start);
  TRISLOT_EXPORT("reverseEncode", reverse_encode);
  TRISLOT_EXPORT("reverseBound", reverse_bound);
  TRISLOT_EXPORT("boundEvaluate", bound_evaluate);
  TRISLOT_EXPORT("boundOfOutput", bound_of_output);
  TRISLOT_EXPORT("boundPrior", bound_prior);
  TRISLOT_EXPORT("reverseEuler", reverse_euler);
  TRISLOT_EXPORT("reverseHeun", reverse_heun);
  TRISLOT_EXPORT("reverseDpmpp2m", reverse_dpmpp_2m);
  TRISLOT_EXPORT("featureNetworkLoad", feature_network_load);
  TRISLOT_EXPORT("featureNetworkRun", feature_network_run);
  TRISLOT_EXPORT("tensorConcatenate", tensor_concatenate);
  TRISLOT_EXPORT("featureStatistics", feature_statistics);
  TRISLOT_EXPORT("frechetDistance", frechet_distance);
  TRISLOT_EXPORT("inceptionScore", inception_score);
  TRISLOT_EXPORT("precisionRecall", precision_recall);
  TRISLOT_EXPORT("kernelDistances", kernel_distances);
  TRISLOT_EXPORT("projectImages", project_images);
  TRISLOT_EXPORT("slicedWasserstein", sliced_wasserstein);
#undef TRISLOT_EXPORT
  return exports;
}

}  // namespace
}  // namespace trislot

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return trislot::init(env, exports); }
NODE_API_MODULE(trislot, Init)
