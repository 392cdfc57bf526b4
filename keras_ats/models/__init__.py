"""Networks to teach and to learn: the CIFAR networks of the distillation literature."""

from keras_ats.models.adapters.cifar_backbones import cifar_backbone as cifar_backbone
from keras_ats.models.adapters.classifiers import classifier as classifier
from keras_ats.models.builders.mobilenets_v2 import mobilenet_v2 as mobilenet_v2
from keras_ats.models.builders.resnets import resnet as resnet
from keras_ats.models.builders.resnexts import resnext as resnext
from keras_ats.models.builders.shufflenets_v1 import shufflenet_v1 as shufflenet_v1
from keras_ats.models.builders.shufflenets_v2 import shufflenet_v2 as shufflenet_v2
from keras_ats.models.builders.vggs import vgg as vgg
from keras_ats.models.builders.wide_resnets import wide_resnet as wide_resnet
from keras_ats.models.registry import get as get
from keras_ats.models.registry import names as names

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
