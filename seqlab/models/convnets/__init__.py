"""Convolutional networks, one file a family; `NETWORKS` has each by its name.

`module.apply(variables, images [B, H, W, C], train=False)` returns logits [B, K]. With `train`,
batch normalisation uses the batch and updates the collection "batch_stats", and dropout needs
`rngs={"dropout": key}`. Modules are named as the papers name their layers.
"""

from typing import NamedTuple

import flax.linen as nn

from seqlab.models.convnets import resnet, vgg
from seqlab.models.convnets.alexnet import AlexNet
from seqlab.models.convnets.googlenet import GoogLeNet
from seqlab.models.convnets.inception import InceptionV3
from seqlab.models.convnets.layers import convolution_norm_relu
from seqlab.models.convnets.lenet import LeNet5, LeNet5Of1998
from seqlab.models.convnets.resnet import ResNet, ResNetCIFAR
from seqlab.models.convnets.unet import UNet
from seqlab.models.convnets.vgg import VGG, SmallVGG


class Network(NamedTuple):
    """A network and the images it is meant for.

    Attributes:
        module: as used for inference, without auxiliary classifiers.
        input_shape: (H, W, C).
    """

    module: nn.Module
    input_shape: tuple[int, int, int]


DIGITS, CIFAR, IMAGENET = (32, 32, 1), (32, 32, 3), (224, 224, 3)

NETWORKS: dict[str, Network] = {
    "lenet5": Network(LeNet5(), DIGITS),
    "lenet5_1998": Network(LeNet5Of1998(), DIGITS),
    "alexnet": Network(AlexNet(), (227, 227, 3)),
    "alexnet_deck": Network(AlexNet(towers=1, norm_first=False), (227, 227, 3)),
    "vgg11": Network(VGG(vgg.COLUMNS[11]), IMAGENET),
    "vgg13": Network(VGG(vgg.COLUMNS[13]), IMAGENET),
    "vgg16": Network(VGG(vgg.COLUMNS[16]), IMAGENET),
    "vgg19": Network(VGG(vgg.COLUMNS[19]), IMAGENET),
    "vgg_small": Network(SmallVGG(), CIFAR),
    "googlenet": Network(GoogLeNet(), IMAGENET),
    "googlenet_bn": Network(
        GoogLeNet(large=3, convolution=convolution_norm_relu, response_norm=False, dropout=0.2),
        IMAGENET,
    ),
    "inception_v3": Network(InceptionV3(), (299, 299, 3)),
    "resnet18": Network(ResNet(*resnet.TABLE_1[18]), IMAGENET),
    "resnet34": Network(ResNet(*resnet.TABLE_1[34]), IMAGENET),
    "resnet50": Network(ResNet(*resnet.TABLE_1[50]), IMAGENET),
    "resnet101": Network(ResNet(*resnet.TABLE_1[101]), IMAGENET),
    "resnet152": Network(ResNet(*resnet.TABLE_1[152]), IMAGENET),
    "plain18": Network(ResNet(*resnet.TABLE_1[18], shortcut=None), IMAGENET),
    "plain34": Network(ResNet(*resnet.TABLE_1[34], shortcut=None), IMAGENET),
    "plain50": Network(ResNet(*resnet.TABLE_1[50], shortcut=None), IMAGENET),
    "plain101": Network(ResNet(*resnet.TABLE_1[101], shortcut=None), IMAGENET),
    "plain152": Network(ResNet(*resnet.TABLE_1[152], shortcut=None), IMAGENET),
    "resnet20_cifar": Network(ResNetCIFAR(n=3), CIFAR),
    "resnet56_cifar": Network(ResNetCIFAR(n=9), CIFAR),
    "plain20_cifar": Network(ResNetCIFAR(n=3, shortcut=None), CIFAR),
    "plain56_cifar": Network(ResNetCIFAR(n=9, shortcut=None), CIFAR),
    "unet": Network(UNet(), (572, 572, 1)),
    "unet_small": Network(
        UNet(widths=(16, 32, 64), padding="SAME", dropout=0.0, classes=4), (64, 64, 3)
    ),
}
