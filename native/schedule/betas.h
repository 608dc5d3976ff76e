// Named beta schedules, in double precision.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trislot {

// name: linear and cosine (guided-diffusion, exact to the bit), scaledLinear (latent diffusion), sigmoid (Jabri et al.
// 2022).
std::vector<double> named_betas(const std::string& name, int64_t timestep_count);

// Shifts and scales sqrt(alpha_bar) so that the last timestep holds no signal (Lin et al. 2023, algorithm 1).
std::vector<double> rescale_to_zero_terminal_snr(const std::vector<double>& betas);

}  // namespace trislot
