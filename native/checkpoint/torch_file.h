// PyTorch's own checkpoint files, read without running anything that is in them, and written so that
// torch.load(weights_only=True) takes them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/tensor_file.h"

namespace trislot {

// The tensors of what `torch.save` wrote: zip archives (PyTorch 1.6 and newer; stored entries, zip64) and the
// older form of five pickles. The pickles go through a machine that knows the operations of state dicts and
// nothing else; any other global, compressed entries, and whatever does not fit its storage or the file are
// refused with a FileError.
//
// Checkpoints may hold several dicts of tensors. `part` names the one that is read, dotted where dicts lie in dicts;
// without it the first of `ema`, `model`, `state_dict` and `model_state_dict` that is there, also inside of one
// another, else everything. Metadata `root` names the dict that was read, `unread` the other keys that hold tensors.
// Dicts and lists below it are read as dotted names (`state.0.exp_avg`). Numbers, booleans and strings beside the
// tensors become metadata; a leading `module.` of names is dropped. Types are kept: half stays half.
std::unique_ptr<TensorReader> open_torch_file(const std::string& path, const std::string& part = "");

TensorFile read_torch_file(const std::string& path, const std::string& part = "");

// A zip archive with a flat OrderedDict, as `torch.save` writes a state dict: whole or not at all, the data aligned to
// 64 bytes. Types as for safetensors. The same arguments give the same bytes.
void write_torch_file(const std::string& path, const std::vector<TensorEntry>& tensors, const TensorSource& source);

}  // namespace trislot
