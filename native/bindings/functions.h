// Every function that JavaScript can call, by subject; addon.cpp is the table of contents.
#pragma once

#include <napi.h>

namespace trislot {

// device.cpp
Napi::Value version(const Napi::CallbackInfo& info);
Napi::Value shutdown(const Napi::CallbackInfo& info);
Napi::Value runtime_info(const Napi::CallbackInfo& info);
Napi::Value self_test(const Napi::CallbackInfo& info);
Napi::Value threads_set(const Napi::CallbackInfo& info);
Napi::Value kernels_choose(const Napi::CallbackInfo& info);
Napi::Value memory_count(const Napi::CallbackInfo& info);
Napi::Value memory_reset_peak(const Napi::CallbackInfo& info);
Napi::Value device_check(const Napi::CallbackInfo& info);

// tensor.cpp
Napi::Value handle_dispose(const Napi::CallbackInfo& info);
Napi::Value tensor_from_host(const Napi::CallbackInfo& info);
Napi::Value tensor_to_host(const Napi::CallbackInfo& info);
Napi::Value tensor_shape(const Napi::CallbackInfo& info);
Napi::Value tensor_noise(const Napi::CallbackInfo& info);
Napi::Value tensor_dropout_mask(const Napi::CallbackInfo& info);
Napi::Value file_read(const Napi::CallbackInfo& info);
Napi::Value file_write(const Napi::CallbackInfo& info);

// file.cpp
Napi::Value file_inspect(const Napi::CallbackInfo& info);
Napi::Value file_convert(const Napi::CallbackInfo& info);

// schedule.cpp
Napi::Value schedule_create(const Napi::CallbackInfo& info);
Napi::Value schedule_respace(const Napi::CallbackInfo& info);
Napi::Value schedule_tables(const Napi::CallbackInfo& info);
Napi::Value schedule_q_sample(const Napi::CallbackInfo& info);
Napi::Value schedule_loss_factors(const Napi::CallbackInfo& info);

// unet.cpp
Napi::Value unet_create(const Napi::CallbackInfo& info);
Napi::Value unet_parameters(const Napi::CallbackInfo& info);
Napi::Value unet_forward(const Napi::CallbackInfo& info);
Napi::Value unet_forward_grad(const Napi::CallbackInfo& info);
Napi::Value unet_load(const Napi::CallbackInfo& info);
Napi::Value unet_save(const Napi::CallbackInfo& info);

// classifier.cpp
Napi::Value classifier_create(const Napi::CallbackInfo& info);
Napi::Value classifier_parameters(const Napi::CallbackInfo& info);
Napi::Value classifier_forward(const Napi::CallbackInfo& info);
Napi::Value classifier_forward_grad(const Napi::CallbackInfo& info);
Napi::Value classifier_load(const Napi::CallbackInfo& info);
Napi::Value classifier_save(const Napi::CallbackInfo& info);
Napi::Value classifier_gradient(const Napi::CallbackInfo& info);
Napi::Value classifier_trainer_create(const Napi::CallbackInfo& info);
Napi::Value classifier_trainer_step(const Napi::CallbackInfo& info);
Napi::Value classifier_trainer_evaluate(const Napi::CallbackInfo& info);
Napi::Value classifier_trainer_step_count(const Napi::CallbackInfo& info);
Napi::Value classifier_trainer_save(const Napi::CallbackInfo& info);
Napi::Value classifier_trainer_load(const Napi::CallbackInfo& info);

// trainer.cpp
Napi::Value trainer_create(const Napi::CallbackInfo& info);
Napi::Value trainer_step(const Napi::CallbackInfo& info);
Napi::Value trainer_step_count(const Napi::CallbackInfo& info);
Napi::Value trainer_save(const Napi::CallbackInfo& info);
Napi::Value trainer_load(const Napi::CallbackInfo& info);
Napi::Value trainer_averaged(const Napi::CallbackInfo& info);
Napi::Value loss_evaluate(const Napi::CallbackInfo& info);
Napi::Value loss_of_output(const Napi::CallbackInfo& info);
Napi::Value loss_shapes(const Napi::CallbackInfo& info);
Napi::Value loss_gradient_gram(const Napi::CallbackInfo& info);

// denoiser.cpp
Napi::Value denoiser_predict(const Napi::CallbackInfo& info);
Napi::Value denoiser_interpret(const Napi::CallbackInfo& info);
Napi::Value reverse_ancestral(const Napi::CallbackInfo& info);
Napi::Value reverse_ddim(const Napi::CallbackInfo& info);
Napi::Value guided_x_start(const Napi::CallbackInfo& info);
Napi::Value reverse_encode(const Napi::CallbackInfo& info);
Napi::Value reverse_bound(const Napi::CallbackInfo& info);

// bound.cpp
Napi::Value bound_evaluate(const Napi::CallbackInfo& info);
Napi::Value bound_of_output(const Napi::CallbackInfo& info);
Napi::Value bound_prior(const Napi::CallbackInfo& info);

// solver.cpp
Napi::Value reverse_euler(const Napi::CallbackInfo& info);
Napi::Value reverse_heun(const Napi::CallbackInfo& info);
Napi::Value reverse_dpmpp_2m(const Napi::CallbackInfo& info);

// metrics.cpp
Napi::Value feature_network_load(const Napi::CallbackInfo& info);
Napi::Value feature_network_run(const Napi::CallbackInfo& info);
Napi::Value tensor_concatenate(const Napi::CallbackInfo& info);
Napi::Value feature_statistics(const Napi::CallbackInfo& info);
Napi::Value frechet_distance(const Napi::CallbackInfo& info);
Napi::Value inception_score(const Napi::CallbackInfo& info);
Napi::Value precision_recall(const Napi::CallbackInfo& info);
Napi::Value kernel_distances(const Napi::CallbackInfo& info);
Napi::Value project_images(const Napi::CallbackInfo& info);
Napi::Value sliced_wasserstein(const Napi::CallbackInfo& info);

}  // namespace trislot
