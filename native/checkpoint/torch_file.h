// PyTorch's own checkpoint files, read without running anything that is in them.
#pragma once

#include <string>

#include "checkpoint/tensor_file.h"

namespace trislot {

// The tensors of what `torch.save` wrote: zip archives (PyTorch 1.6 and newer; stored entries, zip64) and the
// older form of five pickles. The pickles go through a machine that knows the operations of state dicts and
// nothing else; any other global, compressed entries, and whatever does not fit its storage or the file are
// refused with a FileError. Checksums are not compared.
//
// A dict with a `model`, `state_dict`, `model_state_dict` or `ema` dict of tensors (the first of these that
// is there) is taken as its wrapper: metadata `root` names the dict that was read, `unread` the other keys
// that hold tensors. Else nested dicts and lists are read as dotted names (`state.0.exp_avg`). Numbers,
// booleans and strings beside the tensors become metadata; a leading `module.` of names is dropped. Types are
// kept: half stays half. Tensors that share a storage in the file share memory here.
TensorFile read_torch_file(const std::string& path);

}  // namespace trislot
