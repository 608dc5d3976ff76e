"""The network of guided-diffusion (Dhariwal & Nichol 2021, arXiv 2105.05233), from its specification.

State-dict names and order are guided-diffusion's, so weights load by name. Additions: `norm_groups`, `heads`
and `learns_variance`, and any floating dtype for the torso (`convert_torso`).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

HEADS = ('xStart', 'v', 'eps')  # the order of output channels and of the columns of per-head errors


def timestep_embedding(t, dim, max_period=10000):
    """[N] timesteps, possibly fractional -> [N, dim] float32, cosines first; a zero column if dim is odd."""
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / half).to(t.device)
    angles = t.float()[:, None] * frequencies[None]
    embedding = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    return F.pad(embedding, (0, dim % 2))


def conv(dims, *args, **kwargs):
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](*args, **kwargs)


def zeroed(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class GroupNorm(nn.GroupNorm):
    """Normalises in the dtype of its own weights (float32), whatever the dtype of the torso."""

    def forward(self, x):
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Upsample(nn.Module):
    """Nearest, twice as large (three dimensions: the inner two), then a 3x3 convolution if `use_conv`."""

    def __init__(self, channels, use_conv, dims):
        super().__init__()
        self.factor = (1, 2, 2) if dims == 3 else 2
        self.conv = conv(dims, channels, channels, 3, padding=1) if use_conv else nn.Identity()

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=self.factor, mode='nearest'))


class Downsample(nn.Module):
    """Half as large: a 3x3 convolution of stride 2 if `use_conv`, otherwise an average over 2x2."""

    def __init__(self, channels, use_conv, dims):
        super().__init__()
        stride = (1, 2, 2) if dims == 3 else 2
        pool = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[dims - 1]
        self.op = conv(dims, channels, channels, 3, stride=stride, padding=1) if use_conv else pool(stride, stride)

    def forward(self, x):
        return self.op(x)


class ResBlock(nn.Module):
    def __init__(self, channels, embedding_channels, dropout, out_channels, options, resize=None):
        super().__init__()
        dims, groups = options['dims'], options['norm_groups']
        self.scale_shift = options['use_scale_shift_norm']
        self.use_checkpoint = options['use_checkpoint']
        self.in_layers = nn.Sequential(
            GroupNorm(groups, channels), nn.SiLU(), conv(dims, channels, out_channels, 3, padding=1)
        )
        self.resize = resize(channels, False, dims) if resize else None
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding_channels, out_channels * (2 if self.scale_shift else 1))
        )
        self.out_layers = nn.Sequential(
            GroupNorm(groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(conv(dims, out_channels, out_channels, 3, padding=1)),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else conv(dims, channels, out_channels, 1)

    def forward(self, x, emb):
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(self.compute, x, emb, use_reentrant=False)
        return self.compute(x, emb)

    def compute(self, x, emb):
        norm, silu, convolution = self.in_layers
        h = silu(norm(x))
        if self.resize:  # between activation and convolution
            h, x = self.resize(h), self.resize(x)
        h = convolution(h)
        e = self.emb_layers(emb).to(h.dtype)
        e = e.reshape(*e.shape, *[1] * (h.dim() - 2))
        norm, *rest = self.out_layers
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + e)
        for layer in rest:
            h = layer(h)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    def __init__(self, channels, heads, options):
        super().__init__()
        self.heads = heads
        self.new_order = options['use_new_attention_order']
        self.norm = GroupNorm(options['norm_groups'], channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x):
        batch, channels, *spatial = x.shape
        x = x.reshape(batch, channels, -1)
        qkv = self.qkv(self.norm(x))
        d = channels // self.heads
        if self.new_order:  # rows are (q | k | v) of all heads
            q, k, v = qkv.reshape(batch, 3, self.heads, d, -1).unbind(1)
        else:  # each head owns 3d rows: its q, k, v
            q, k, v = qkv.reshape(batch, self.heads, 3, d, -1).unbind(2)
        scale = 1 / math.sqrt(math.sqrt(d))  # on both operands, which keeps half-precision products small
        weight = torch.einsum('nhct,nhcs->nhts', q * scale, k * scale)
        softmax_dtype = torch.promote_types(weight.dtype, torch.float32)
        weight = torch.softmax(weight.to(softmax_dtype), dim=-1).to(weight.dtype)
        a = torch.einsum('nhts,nhcs->nhct', weight, v).reshape(batch, channels, -1)
        return (x + self.proj_out(a)).reshape(batch, channels, *spatial)


class Block(nn.Sequential):
    """ResBlocks receive the embedding as well; all other members receive only h."""

    def forward(self, h, emb):
        for layer in self:
            h = layer(h, emb) if isinstance(layer, ResBlock) else layer(h)
        return h


class UNetModel(nn.Module):
    """Predictions, then variance if learned, [N, out_channels, ...] from x [N, in_channels, ...] and t [N].

    Options are guided-diffusion's. With `heads` (a subset of HEADS, in that order) out_channels is computed: the
    image channels for each head, then as many for the variance if `learns_variance`. `low_res` doubles the channels
    of the first convolution (super-resolution).
    """

    def __init__(
        self,
        image_size=None,
        in_channels=3,
        model_channels=32,
        out_channels=None,
        num_res_blocks=1,
        attention_resolutions=(),
        dropout=0,
        channel_mult=(1, 2, 4, 8),
        conv_resample=True,
        dims=2,
        num_classes=None,
        use_checkpoint=False,
        use_fp16=False,
        num_heads=1,
        num_head_channels=-1,
        num_heads_upsample=-1,
        use_scale_shift_norm=False,
        resblock_updown=False,
        use_new_attention_order=False,
        norm_groups=32,
        heads=None,
        learns_variance=False,
        low_res=False,
    ):
        super().__init__()
        options = dict(
            dims=dims,
            norm_groups=norm_groups,
            use_scale_shift_norm=use_scale_shift_norm,
            use_checkpoint=use_checkpoint,
            use_new_attention_order=use_new_attention_order,
        )
        if heads is not None:
            out_channels = in_channels * (len(heads) + int(learns_variance))
        self.model_channels = model_channels
        self.num_classes = num_classes
        self.torso_dtype = torch.float32
        widths = [int(m * model_channels) for m in channel_mult]
        E = 4 * model_channels
        last = len(widths) - 1

        def attention(channels, count):
            heads_here = count if num_head_channels == -1 else channels // num_head_channels
            return AttentionBlock(channels, heads_here, options)

        def res(channels, out, resize=None):
            return ResBlock(channels, E, dropout, out, options, resize)

        self.time_embed = nn.Sequential(nn.Linear(model_channels, E), nn.SiLU(), nn.Linear(E, E))
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes, E)

        ch = widths[0]
        stem = conv(dims, in_channels * (2 if low_res else 1), ch, 3, padding=1)
        self.input_blocks = nn.ModuleList([Block(stem)])
        skips = [ch]
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                layers = [res(ch, width)]
                ch = width
                if 2**level in attention_resolutions:
                    layers.append(attention(ch, num_heads))
                self.input_blocks.append(Block(*layers))
                skips.append(ch)
            if level < last:
                down = res(ch, ch, Downsample) if resblock_updown else Downsample(ch, conv_resample, dims)
                self.input_blocks.append(Block(down))
                skips.append(ch)

        self.middle_block = Block(res(ch, ch), attention(ch, num_heads), res(ch, ch))

        self.output_blocks = nn.ModuleList()
        up_heads = num_heads if num_heads_upsample == -1 else num_heads_upsample
        for level in reversed(range(len(widths))):
            for i in range(num_res_blocks + 1):
                layers = [res(ch + skips.pop(), widths[level])]
                ch = widths[level]
                if 2**level in attention_resolutions:
                    layers.append(attention(ch, up_heads))
                if level > 0 and i == num_res_blocks:
                    layers.append(res(ch, ch, Upsample) if resblock_updown else Upsample(ch, conv_resample, dims))
                self.output_blocks.append(Block(*layers))

        self.out = nn.Sequential(
            GroupNorm(norm_groups, ch), nn.SiLU(), zeroed(conv(dims, ch, out_channels, 3, padding=1))
        )
        if use_fp16:
            self.convert_torso(torch.float16)

    def convert_torso(self, dtype):
        """Casts the convolutions of the input, middle and output blocks; all else stays as it is."""
        self.torso_dtype = dtype
        for part in (self.input_blocks, self.middle_block, self.output_blocks):
            for module in part.modules():
                if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                    module.to(dtype)
        return self

    def double(self):
        self.torso_dtype = torch.float64
        return super().double()

    def forward(self, x, t, y=None):
        if (y is not None) != (self.num_classes is not None):
            raise ValueError('y must be given for a class-conditional network, and only then')
        embedding = timestep_embedding(t, self.model_channels).to(self.time_embed[0].weight.dtype)
        emb = self.time_embed(embedding)
        if y is not None:
            emb = emb + self.label_emb(y)
        h = x.to(self.torso_dtype)
        skips = []
        for block in self.input_blocks:
            h = block(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h.to(x.dtype))


class SuperResModel(UNetModel):
    """UNetModel that also sees `low_res` [N, C, h, w], resized to x's size (bilinear, no antialiasing)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, low_res=True, **kwargs)

    def forward(self, x, t, low_res, y=None):
        resized = F.interpolate(low_res, x.shape[2:], mode='bilinear', align_corners=False)
        return super().forward(torch.cat([x, resized], dim=1), t, y)


def split_output(output, heads, learns_variance=False):
    """[N, C * n, ...] -> ({head: [N, C, ...]}, variance channels or None)."""
    parts = list(output.chunk(len(heads) + int(learns_variance), dim=1))
    variance = parts.pop() if learns_variance else None
    return dict(zip(heads, parts)), variance
