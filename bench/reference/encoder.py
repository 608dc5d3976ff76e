"""The noisy classifier of guided-diffusion (Dhariwal & Nichol 2021, arXiv 2105.05233), from its specification."""

import math

import torch
from torch import nn

from unet import GroupNorm, UNetModel, timestep_embedding

POOLS = ('adaptive', 'attention', 'spatial', 'spatial_v2')


class AttentionPool(nn.Module):
    """[N, C, H, W] -> [N, out]: the mean of all positions asks, it and every position answer."""

    def __init__(self, side, channels, head_channels, out):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(channels, side * side + 1) / math.sqrt(channels))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out, 1)
        self.heads = channels // head_channels

    def forward(self, x):
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=2, keepdim=True), x], dim=2) + self.positional_embedding
        batch, channels, tokens = x.shape
        q, k, v = self.qkv_proj(x).reshape(batch, 3, self.heads, channels // self.heads, tokens).unbind(1)
        weight = torch.softmax(torch.einsum('nhct,nhcs->nhts', q, k) / math.sqrt(channels // self.heads), dim=-1)
        a = torch.einsum('nhts,nhcs->nhct', weight, v).reshape(batch, channels, tokens)
        return self.c_proj(a)[:, :, 0]


class EncoderUNetModel(nn.Module):
    """Logits [N, out_channels] from x [N, in_channels, H, W] and t [N]. Options are guided-diffusion's."""

    def __init__(self, image_size, out_channels, pool='adaptive', num_head_channels=-1, norm_groups=32, **options):
        super().__init__()
        body = UNetModel(
            out_channels=1, num_head_channels=num_head_channels, norm_groups=norm_groups, **options
        )  # whose way up is thrown away
        self.model_channels = body.model_channels
        self.time_embed, self.input_blocks, self.middle_block = body.time_embed, body.input_blocks, body.middle_block
        widths, width = [], 0
        for block in body.input_blocks:
            for layer in block:
                width = width_of(layer, width)
            widths.append(width)
        features, self.pool = sum(widths) + width, pool
        side = image_size // 2 ** (len(options['channel_mult']) - 1)
        norm = GroupNorm(norm_groups, width)
        if pool == 'adaptive':
            layers = [norm, nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, out_channels, 1), nn.Flatten()]
        elif pool == 'attention':
            layers = [norm, nn.SiLU(), AttentionPool(side, width, num_head_channels, out_channels)]
        elif pool == 'spatial':
            layers = [nn.Linear(features, 2048), nn.ReLU(), nn.Linear(2048, out_channels)]
        else:
            norm = nn.GroupNorm(norm_groups, 2048)
            layers = [nn.Linear(features, 2048), norm, nn.SiLU(), nn.Linear(2048, out_channels)]
        self.out = nn.Sequential(*layers)

    def forward(self, x, t):
        emb = self.time_embed(timestep_embedding(t, self.model_channels).to(self.time_embed[0].weight.dtype))
        h, means = x, []
        for block in self.input_blocks:
            h = block(h, emb)
            means.append(h.mean(dim=(2, 3)))
        h = self.middle_block(h, emb)
        means.append(h.mean(dim=(2, 3)))
        return self.out(torch.cat(means, dim=1) if self.pool.startswith('spatial') else h)


def width_of(layer, before):
    """Channels after a layer."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels
    if hasattr(layer, 'out_layers'):
        return layer.out_layers[3].out_channels
    return before


def log_probability_gradient(classifier, x_t, t, y):
    """Gradient of log p(y | x_t) at x_t."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        chosen = torch.log_softmax(classifier(x, t), dim=1)[torch.arange(len(y)), y].sum()
        return torch.autograd.grad(chosen, x)[0]
