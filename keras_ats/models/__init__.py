"""Networks to teach and to learn: the CIFAR networks of the distillation literature."""

from keras_ats.models.cifar_backbones import cifar_backbone as cifar_backbone
from keras_ats.models.classifiers import classifier as classifier
from keras_ats.models.mobilenets_v2 import mobilenet_v2 as mobilenet_v2
from keras_ats.models.registry import get as get
from keras_ats.models.registry import names as names
from keras_ats.models.resnets import resnet as resnet
from keras_ats.models.resnexts import resnext as resnext
from keras_ats.models.shufflenets_v1 import shufflenet_v1 as shufflenet_v1
from keras_ats.models.shufflenets_v2 import shufflenet_v2 as shufflenet_v2
from keras_ats.models.vggs import vgg as vgg
from keras_ats.models.wide_resnets import wide_resnet as wide_resnet

__all__ = [
    "cifar_backbone",
    "classifier",
    "get",
    "mobilenet_v2",
    "names",
    "resnet",
    "resnext",
    "shufflenet_v1",
    "shufflenet_v2",
    "vgg",
    "wide_resnet",
]
