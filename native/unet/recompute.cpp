#include "unet/recompute.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace trislot {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Block = std::function<at::Tensor(const Tensors&)>;

// A block's closure, carried from the forward pass to the backward pass.
struct BlockHolder : torch::CustomClassHolder {
  Block block;
};

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  static at::Tensor forward(AutogradContext* context, const Block& block, int64_t input_count, at::TensorList tensors) {
    context->save_for_backward(tensors.vec());
    auto holder = c10::make_intrusive<BlockHolder>();
    holder->block = block;
    context->saved_data["block"] = c10::IValue::make_capsule(holder);
    context->saved_data["input_count"] = input_count;
    c10::NoGradGuard no_grad;
    return block({tensors.begin(), tensors.begin() + input_count});
  }

  static variable_list backward(AutogradContext* context, const variable_list& output_grads) {
    auto tensors = context->get_saved_variables();
    const auto input_count = static_cast<size_t>(context->saved_data["input_count"].toInt());
    const auto holder = c10::static_intrusive_pointer_cast<BlockHolder>(context->saved_data["block"].toCapsule());

    // Inputs are cut off from the outer graph; parameters are leaves already.
    variable_list inputs, sources;
    for (size_t i = 0; i < input_count; ++i) {
      inputs.push_back(tensors[i].detach().requires_grad_(tensors[i].requires_grad()));
    }
    at::Tensor output;
    {
      c10::AutoGradMode enable_grad(true);
      output = holder->block(inputs);
    }
    std::vector<size_t> wanted;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto& source = i < input_count ? inputs[i] : tensors[i];
      if (!source.requires_grad()) continue;
      sources.push_back(source);
      wanted.push_back(i);
    }
    const auto grads = torch::autograd::grad({output}, sources, {output_grads[0]}, /*retain_graph=*/false,
                                             /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result(2 + tensors.size());  // block and input_count have no gradient
    for (size_t i = 0; i < wanted.size(); ++i) result[2 + wanted[i]] = grads[i];
    return result;
  }
};

}  // namespace

at::Tensor recomputed(const Block& block, const Tensors& inputs, const Tensors& parameters) {
  variable_list tensors(inputs.begin(), inputs.end());
  tensors.insert(tensors.end(), parameters.begin(), parameters.end());
  // Only a TensorList is searched for tensors that need a gradient; a vector would be passed over silently.
  return Recompute::apply(block, static_cast<int64_t>(inputs.size()), at::TensorList(tensors));
}

}  // namespace trislot
