"""Multiply-adds of one image in closed form, from the papers' tables and not from the programs.

A convolution takes one for each weight and position of its output (the zeros of the padding
counted), a fully connected layer one for each weight, an up-convolution one for each weight and
position of its input. `MACS` has every network but the Inceptions' auxiliary classifiers.
"""


def convolution(size, window, inputs, outputs, groups=1):
    """`size` × `size` positions, `window` × `window` taps."""
    return size**2 * window**2 * inputs * outputs // groups


def lenet5():
    return 28**2 * 25 * 6 + 10**2 * 25 * 6 * 16 + 25 * 16 * 120 + 120 * 84 + 84 * 10


def lenet5_1998():
    """60 connections of maps in C3 in place of 96; distances to codes multiply with no weight."""
    return 28**2 * 25 * 6 + 10**2 * 25 * 60 + 25 * 16 * 120 + 120 * 84


def alexnet(towers):
    convolutions = (
        convolution(55, 11, 3, 96)
        + convolution(27, 5, 96, 256, towers)
        + convolution(13, 3, 256, 384)
        + convolution(13, 3, 384, 384, towers)
        + convolution(13, 3, 384, 256, towers)
    )
    return convolutions + 6 * 6 * 256 * 4096 + 4096 * 4096 + 4096 * 1000


def vgg(blocks):
    """`blocks`: convolutions at 224, 112, 56, 28 and 14."""
    total, inputs = 0, 3
    for size, outputs, count in zip(
        (224, 112, 56, 28, 14), (64, 128, 256, 512, 512), blocks, strict=True
    ):
        total += convolution(size, 3, inputs, outputs)
        total += (count - 1) * convolution(size, 3, outputs, outputs)
        inputs = outputs
    return total + 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000


def vgg_small():
    """Each block: C to D, then D to D channels."""
    blocks = ((32, 3, 16), (16, 16, 32), (8, 32, 64))
    return sum(size**2 * 9 * (c * d + d * d) for size, c, d in blocks) + 64 * 10


def inception_module(size, inputs, conv1, reduce3, conv3, reduce5, conv5, pool, large=5):
    thin = inputs * (conv1 + reduce3 + reduce5 + pool)
    return size**2 * (thin + 9 * reduce3 * conv3 + large**2 * reduce5 * conv5)


def googlenet(large):
    """Szegedy et al. 2015, Table 1: size and depth of the input, then the module's columns."""
    modules = (
        (28, 192, 64, 96, 128, 16, 32, 32),
        (28, 256, 128, 128, 192, 32, 96, 64),
        (14, 480, 192, 96, 208, 16, 48, 64),
        (14, 512, 160, 112, 224, 24, 64, 64),
        (14, 512, 128, 128, 256, 24, 64, 64),
        (14, 512, 112, 144, 288, 32, 64, 64),
        (14, 528, 256, 160, 320, 32, 128, 128),
        (7, 832, 256, 160, 320, 32, 128, 128),
        (7, 832, 384, 192, 384, 48, 128, 128),
    )
    stem = convolution(112, 7, 3, 64) + convolution(56, 1, 64, 64) + convolution(56, 3, 64, 192)
    return stem + sum(inception_module(*row, large=large) for row in modules) + 1024 * 1000


def inception_v3():
    """Maps of 35, 17 and 8, branch by branch: weights of a position, then of those that halve."""
    total = 149**2 * 9 * 3 * 32 + 147**2 * 9 * 32 * (32 + 64) + 73**2 * 64 * 80
    total += 71**2 * 9 * 80 * 192
    for depth, pool in ((192, 32), (256, 64), (288, 64)):
        small = depth * (64 + 48 + 64 + pool)
        total += 35**2 * (small + 25 * 48 * 64 + 9 * 64 * 96 + 9 * 96 * 96)
    total += 35**2 * (288 * 64 + 9 * 64 * 96) + 17**2 * 9 * (288 * 384 + 96 * 96)
    for inner in (128, 160, 160, 192):
        once = 768 * 192 + 768 * inner + 7 * inner * inner + 7 * inner * 192
        twice = 768 * inner + 3 * 7 * inner * inner + 7 * inner * 192
        total += 17**2 * (once + twice + 768 * 192)
    total += 17**2 * (2 * 768 * 192 + 2 * 7 * 192 * 192) + 8**2 * 9 * (192 * 320 + 192 * 192)
    for depth in (1280, 2048):
        fork = 2 * 3 * 384 * 384
        total += 8**2 * (depth * (320 + 384 + 448 + 192) + 2 * fork + 9 * 448 * 384)
    return total + 2048 * 1000


def resnet(blocks, bottleneck, skips):
    """He et al. 2015, Table 1; the first 1×1 of a bottleneck comes before its stride."""
    total, inputs = convolution(112, 7, 3, 64), 64
    sizes = (56, 28, 14, 7)
    for stage, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
        width = 64 * 2**stage
        outputs = 4 * width if bottleneck else width
        before = size * 2 if stage else size
        for block in range(count):
            first = before if block == 0 else size
            if bottleneck:
                total += convolution(first, 1, inputs, width) + convolution(size, 3, width, width)
                total += convolution(size, 1, width, outputs)
            else:
                total += convolution(size, 3, inputs, width) + convolution(size, 3, width, width)
            if skips and inputs != outputs:
                total += convolution(size, 1, inputs, outputs)
            inputs = outputs
    return total + inputs * 1000


def resnet_cifar(n):
    """6n + 2 layers; shortcuts of option A multiply nothing."""
    first = convolution(32, 3, 3, 16)
    same = 2 * n * convolution(32, 3, 16, 16) + (4 * n - 2) * convolution(16, 3, 32, 32)
    return first + same + convolution(16, 3, 16, 32) + convolution(8, 3, 32, 64) + 64 * 10


def unet(sizes_down, sizes_up, lowest, widths, inputs, classes):
    """`sizes_*`: of the two results of each level, from its top; `lowest`: what goes up first."""
    total = 0
    for (one, two), width in zip(sizes_down, widths, strict=True):
        total += convolution(one, 3, inputs, width) + convolution(two, 3, width, width)
        inputs = width
    position = lowest
    for (one, two), width in zip(sizes_up, reversed(widths[:-1]), strict=True):
        total += position**2 * 4 * (2 * width) * width
        total += convolution(one, 3, 2 * width, width) + convolution(two, 3, width, width)
        position = two
    return total + position**2 * widths[0] * classes


RESNETS = {
    "18": ((2, 2, 2, 2), False),
    "34": ((3, 4, 6, 3), False),
    "50": ((3, 4, 6, 3), True),
    "101": ((3, 4, 23, 3), True),
    "152": ((3, 8, 36, 3), True),
}

MACS: dict[str, int] = {
    "lenet5": lenet5(),
    "lenet5_1998": lenet5_1998(),
    "alexnet": alexnet(towers=2),
    "alexnet_deck": alexnet(towers=1),
    "vgg11": vgg((1, 1, 2, 2, 2)),
    "vgg13": vgg((2, 2, 2, 2, 2)),
    "vgg16": vgg((2, 2, 3, 3, 3)),
    "vgg19": vgg((2, 2, 4, 4, 4)),
    "vgg_small": vgg_small(),
    "googlenet": googlenet(large=5),
    "googlenet_bn": googlenet(large=3),
    "inception_v3": inception_v3(),
    **{f"resnet{depth}": resnet(*table, skips=True) for depth, table in RESNETS.items()},
    **{f"plain{depth}": resnet(*table, skips=False) for depth, table in RESNETS.items()},
    "resnet20_cifar": resnet_cifar(3),
    "resnet56_cifar": resnet_cifar(9),
    "plain20_cifar": resnet_cifar(3),
    "plain56_cifar": resnet_cifar(9),
    "unet": unet(
        sizes_down=((570, 568), (282, 280), (138, 136), (66, 64), (30, 28)),
        sizes_up=((54, 52), (102, 100), (198, 196), (390, 388)),
        lowest=28,
        widths=(64, 128, 256, 512, 1024),
        inputs=1,
        classes=2,
    ),
    "unet_small": unet(
        sizes_down=((64, 64), (32, 32), (16, 16)),
        sizes_up=((32, 32), (64, 64)),
        lowest=16,
        widths=(16, 32, 64),
        inputs=3,
        classes=4,
    ),
}
