"""Building blocks and small networks in torch functions, on the same params as the Linen modules.

Images are [B, C, H, W] here. `params` and `stats` are the dicts of Linen's collections.
"""

import numpy as np
import torch
import torch.nn.functional as F

from seqlab.models.convnets.lenet import TABLE_I, paley_codes


def tensor(array):
    return torch.from_numpy(np.array(array))


def nchw(images):
    return tensor(images).permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1).numpy()


def convolution(p, x, **settings):
    bias = tensor(p["bias"]) if "bias" in p else None
    return F.conv2d(x, tensor(p["kernel"]).permute(3, 2, 0, 1), bias, **settings)


def up_convolution(p, x):
    """Linen's transposed convolution has its window the other way round."""
    kernel = tensor(p["kernel"]).flip(0, 1).permute(2, 3, 0, 1)
    return F.conv_transpose2d(x, kernel, tensor(p["bias"]), stride=2)


def dense(p, x):
    return x @ tensor(p["kernel"]) + tensor(p["bias"])


def flat(x):
    """In the order of Linen's images, channels last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)


def norm(p, stats, x, eps=1e-5):
    statistics = tensor(stats["mean"]), tensor(stats["var"])
    return F.batch_norm(x, *statistics, tensor(p["scale"]), tensor(p["bias"]), eps=eps)


def conv_norm_relu(p, stats, name, x, **settings):
    x = convolution(p[name], x, **settings)
    return F.relu(norm(p[f"{name}_norm"], stats[f"{name}_norm"], x, eps=1e-3))


def inception(p, x):
    """Figure 2 (b) of GoogLeNet."""
    relu = F.relu
    three = relu(convolution(p["reduce3x3"], x))
    five = relu(convolution(p["reduce5x5"], x))
    pool = F.max_pool2d(x, 3, stride=1, padding=1)
    return torch.cat(
        [
            relu(convolution(p["conv1x1"], x)),
            relu(convolution(p["conv3x3"], three, padding=1)),
            relu(convolution(p["conv5x5"], five, padding=2)),
            relu(convolution(p["pool_proj"], pool)),
        ],
        dim=1,
    )


def projection(p, stats, x, stride):
    if "projection" not in p:
        return x
    shortcut = convolution(p["projection"], x, stride=stride)
    return norm(p["projection_norm"], stats["projection_norm"], shortcut)


def option_a(x, features, stride):
    x = x[:, :, ::stride, ::stride]
    return torch.cat([x, torch.zeros(len(x), features - x.shape[1], *x.shape[2:])], dim=1)


def basic_body(p, stats, x, stride):
    y = convolution(p["conv1"], x, stride=stride, padding=1)
    y = F.relu(norm(p["norm1"], stats["norm1"], y))
    return norm(p["norm2"], stats["norm2"], convolution(p["conv2"], y, padding=1))


def bottleneck_body(p, stats, x, stride):
    y = F.relu(norm(p["norm1"], stats["norm1"], convolution(p["conv1"], x)))
    y = convolution(p["conv2"], y, stride=stride, padding=1)
    y = F.relu(norm(p["norm2"], stats["norm2"], y))
    return norm(p["norm3"], stats["norm3"], convolution(p["conv3"], y))


def lenet5(p, stats, x):
    x = F.max_pool2d(F.relu(convolution(p["c1"], x)), 2)
    x = F.max_pool2d(F.relu(convolution(p["c3"], x)), 2)
    x = F.relu(convolution(p["c5"], x))
    return dense(p["output"], F.relu(dense(p["f6"], flat(x))))


def lenet5_1998(p, stats, x):
    """C3 as one convolution, with zeros where Table I has no connection."""

    def squash(x):
        return 1.7159 * torch.tanh(2 / 3 * x)

    def subsample(p, x):
        sums = 4 * F.avg_pool2d(x, 2)
        return tensor(p["coefficient"])[:, None, None] * sums + tensor(p["bias"])[:, None, None]

    kernel, bias = torch.zeros(16, 6, 5, 5), torch.zeros(16)
    feature = 0
    for name, group in TABLE_I.items():
        for column, seen in enumerate(group):
            for row, source in enumerate(seen):
                kernel[feature, source] = tensor(p["c3"][name]["kernel"])[:, :, row, column]
            bias[feature] = float(p["c3"][name]["bias"][column])
            feature += 1
    x = squash(subsample(p["s2"], squash(convolution(p["c1"], x))))
    x = squash(subsample(p["s4"], squash(F.conv2d(x, kernel, bias))))
    x = squash(dense(p["f6"], flat(squash(convolution(p["c5"], x)))))
    codes = tensor(paley_codes(84, 10)).float()
    return -(torch.cdist(x, codes, compute_mode="donot_use_mm_for_euclid_dist") ** 2)


def vgg_small(p, stats, x):
    for block in (1, 2, 3):
        for layer in (1, 2):
            name = f"{block}_{layer}"
            x = convolution(p[f"conv{name}"], x, padding=1)
            x = F.relu(norm(p[f"norm{name}"], stats[f"norm{name}"], x))
        x = F.max_pool2d(x, 2)
    return dense(p["fc"], x.mean(dim=(2, 3)))


def resnet20_cifar(p, stats, x):
    x = F.relu(norm(p["norm1"], stats["norm1"], convolution(p["conv1"], x, padding=1)))
    for stage in (2, 3, 4):
        for block in (1, 2, 3):
            name = f"conv{stage}_{block}"
            stride = 2 if stage > 2 and block == 1 else 1
            y = basic_body(p[name], stats[name], x, stride)
            x = F.relu(y + option_a(x, y.shape[1], stride))
    return dense(p["fc"], x.mean(dim=(2, 3)))


def unet_small(p, stats, x):
    def twice(x, name):
        for number in (1, 2):
            x = F.relu(convolution(p[f"{name}_{number}"], x, padding=1))
        return x

    first = twice(x, "down1")
    second = twice(F.max_pool2d(first, 2), "down2")
    lowest = twice(F.max_pool2d(second, 2), "down3")
    up = twice(torch.cat([second, up_convolution(p["upconv2"], lowest)], dim=1), "up2")
    up = twice(torch.cat([first, up_convolution(p["upconv1"], up)], dim=1), "up1")
    return convolution(p["classes"], up)


def inception_v3_module(name, p, stats, x):
    """One module of each kind, branch by branch as the figures of Inception-v3 have them."""

    def conv(branch, x, **settings):
        return conv_norm_relu(p, stats, branch, x, **settings)

    average = F.avg_pool2d(x, 3, stride=1, padding=1)
    if name == "mixed_5b":
        five = conv("branch5x5_2", conv("branch5x5_1", x), padding=2)
        double = conv("branch3x3_double_2", conv("branch3x3_double_1", x), padding=1)
        double = conv("branch3x3_double_3", double, padding=1)
        outputs = [conv("branch1x1_1", x), five, double, conv("branch_pool_2", average)]
    elif name == "mixed_6a":
        three = conv("branch3x3_1", x, stride=2)
        double = conv("branch3x3_double_2", conv("branch3x3_double_1", x), padding=1)
        double = conv("branch3x3_double_3", double, stride=2)
        outputs = [three, double, F.max_pool2d(x, 3, stride=2)]
    elif name == "mixed_6b":
        seven = conv("branch7x7_2", conv("branch7x7_1", x), padding=(0, 3))
        seven = conv("branch7x7_3", seven, padding=(3, 0))
        double = conv("branch7x7_double_2", conv("branch7x7_double_1", x), padding=(3, 0))
        double = conv("branch7x7_double_3", double, padding=(0, 3))
        double = conv("branch7x7_double_4", double, padding=(3, 0))
        double = conv("branch7x7_double_5", double, padding=(0, 3))
        outputs = [conv("branch1x1_1", x), seven, double, conv("branch_pool_2", average)]
    elif name == "mixed_7a":
        three = conv("branch3x3_2", conv("branch3x3_1", x), stride=2)
        seven = conv("branch7x7_2", conv("branch7x7_1", x), padding=(0, 3))
        seven = conv("branch7x7_3", seven, padding=(3, 0))
        seven = conv("branch7x7_4", seven, stride=2)
        outputs = [three, seven, F.max_pool2d(x, 3, stride=2)]
    else:
        three = conv("branch3x3_1", x)
        double = conv("branch3x3_double_2", conv("branch3x3_double_1", x), padding=1)
        outputs = [
            conv("branch1x1_1", x),
            conv("branch3x3_2a", three, padding=(0, 1)),
            conv("branch3x3_2b", three, padding=(1, 0)),
            conv("branch3x3_double_3a", double, padding=(0, 1)),
            conv("branch3x3_double_3b", double, padding=(1, 0)),
            conv("branch_pool_2", average),
        ]
    return torch.cat(outputs, dim=1)
