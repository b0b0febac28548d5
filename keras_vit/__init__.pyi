# Written by `make stubs`; do not edit.
from keras_vit import edge as edge
from keras_vit import layers as layers
from keras_vit import training as training
from keras_vit.graph.classifier import new_head as new_head
from keras_vit.graph.flattening import flatten as flatten
from keras_vit.graph.fusion import fuse as fuse
from keras_vit.graph.resizing import resize_model as resize_model
from keras_vit.inspection.attention_maps import attention_distance as attention_distance
from keras_vit.inspection.attention_maps import attention_maps as attention_maps
from keras_vit.inspection.attention_maps import attention_rollout as attention_rollout
from keras_vit.inspection.attention_maps import position_similarity as position_similarity
from keras_vit.inspection.features import feature_extractor as feature_extractor
from keras_vit.models.beit.beit import BEiT as BEiT
from keras_vit.models.cait.cait import CaiT as CaiT
from keras_vit.models.classes import class_names as class_names
from keras_vit.models.classes import set_class_names as set_class_names
from keras_vit.models.coatnet.coatnet import CoAtNet as CoAtNet
from keras_vit.models.convmixer.convmixer import ConvMixer as ConvMixer
from keras_vit.models.convnext.convnext import ConvNeXt as ConvNeXt
from keras_vit.models.cpvt.cpvt import CPVT as CPVT
from keras_vit.models.cpvt.twins import Twins as Twins
from keras_vit.models.cvt.cvt import CvT as CvT
from keras_vit.models.efficientvit.efficientvit import EfficientViT as EfficientViT
from keras_vit.models.efficientvit_msra.efficientvit_msra import EfficientViT_MSRA as EfficientViT_MSRA
from keras_vit.models.igpt.colors import model_of_colors as model_of_colors
from keras_vit.models.igpt.colors import set_colors as set_colors
from keras_vit.models.igpt.igpt import iGPT as iGPT
from keras_vit.models.igpt.next_color import next_color_model as next_color_model
from keras_vit.models.igpt.probing import probe_model as probe_model
from keras_vit.models.igpt.sampling import complete_images as complete_images
from keras_vit.models.image_facts import Statistics as Statistics
from keras_vit.models.info import count_macs as count_macs
from keras_vit.models.info import model_info as model_info
from keras_vit.models.mlp_mixer.mlp_mixer import MLPMixer as MLPMixer
from keras_vit.models.mobile_former.mobile_former import MobileFormer as MobileFormer
from keras_vit.models.mobilevit.mobilevit import MobileViT as MobileViT
from keras_vit.models.mobilevit.mobilevit_v2 import MobileViTV2 as MobileViTV2
from keras_vit.models.mvitv2.mvitv2 import MViTv2 as MViTv2
from keras_vit.models.nat.nat import NAT as NAT
from keras_vit.models.preprocessing import preprocess_input as preprocess_input
from keras_vit.models.pvt.pvt import PVT as PVT
from keras_vit.models.pvt.pvt_v2 import PVTv2 as PVTv2
from keras_vit.models.registry import create_model as create_model
from keras_vit.models.registry import download_weights as download_weights
from keras_vit.models.registry import list_models as list_models
from keras_vit.models.registry import list_weights as list_weights
from keras_vit.models.swin.swin import Swin as Swin
from keras_vit.models.swin.swin_v2 import SwinV2 as SwinV2
from keras_vit.models.t2t.t2t import T2T as T2T
from keras_vit.models.tnt.tnt import TNT as TNT
from keras_vit.models.vit.deit import DeiT as DeiT
from keras_vit.models.vit.deit import DeiT3 as DeiT3
from keras_vit.models.vit.deit import average_heads as average_heads
from keras_vit.models.vit.dinov2 import DINOv2 as DINOv2
from keras_vit.models.vit.vit import ViT as ViT
from keras_vit.models.xcit.xcit import XCiT as XCiT
from keras_vit.weights.load import load_weights as load_weights

__version__: str

BEiT_B16 = BEiT
BEiT_L16 = BEiT
CPVT_B = CPVT
CPVT_B_GAP = CPVT
CPVT_S = CPVT
CPVT_S_GAP = CPVT
CPVT_Ti = CPVT
CPVT_Ti_GAP = CPVT
CaiT_M36 = CaiT
CaiT_M48 = CaiT
CaiT_S24 = CaiT
CaiT_S36 = CaiT
CaiT_XS24 = CaiT
CaiT_XXS24 = CaiT
CaiT_XXS36 = CaiT
CoAtNet_0 = CoAtNet
CoAtNet_1 = CoAtNet
CoAtNet_2 = CoAtNet
CoAtNet_3 = CoAtNet
CoAtNet_4 = CoAtNet
CoAtNet_5 = CoAtNet
ConvMixer_1024_20 = ConvMixer
ConvMixer_1536_20 = ConvMixer
ConvMixer_768_32 = ConvMixer
ConvNeXt_Atto = ConvNeXt
ConvNeXt_B = ConvNeXt
ConvNeXt_Femto = ConvNeXt
ConvNeXt_L = ConvNeXt
ConvNeXt_Nano = ConvNeXt
ConvNeXt_Pico = ConvNeXt
ConvNeXt_S = ConvNeXt
ConvNeXt_T = ConvNeXt
ConvNeXt_XL = ConvNeXt
CvT_13 = CvT
CvT_21 = CvT
CvT_W24 = CvT
DINOv2_B14 = DINOv2
DINOv2_B14_Reg = DINOv2
DINOv2_L14 = DINOv2
DINOv2_L14_Reg = DINOv2
DINOv2_S14 = DINOv2
DINOv2_S14_Reg = DINOv2
DINOv2_g14 = DINOv2
DINOv2_g14_Reg = DINOv2
DeiT3_B16 = DeiT3
DeiT3_H14 = DeiT3
DeiT3_L16 = DeiT3
DeiT3_M16 = DeiT3
DeiT3_S16 = DeiT3
DeiT_B16 = DeiT
DeiT_B16_Distilled = DeiT
DeiT_S16 = DeiT
DeiT_S16_Distilled = DeiT
DeiT_Ti16 = DeiT
DeiT_Ti16_Distilled = DeiT
DiNAT_Base = NAT
DiNAT_Large = NAT
DiNAT_Mini = NAT
DiNAT_Small = NAT
DiNAT_Tiny = NAT
EfficientViT_B0 = EfficientViT
EfficientViT_B1 = EfficientViT
EfficientViT_B2 = EfficientViT
EfficientViT_B3 = EfficientViT
EfficientViT_L0 = EfficientViT
EfficientViT_L1 = EfficientViT
EfficientViT_L2 = EfficientViT
EfficientViT_L3 = EfficientViT
EfficientViT_M0 = EfficientViT_MSRA
EfficientViT_M1 = EfficientViT_MSRA
EfficientViT_M2 = EfficientViT_MSRA
EfficientViT_M3 = EfficientViT_MSRA
EfficientViT_M4 = EfficientViT_MSRA
EfficientViT_M5 = EfficientViT_MSRA
MViTv2_B = MViTv2
MViTv2_L = MViTv2
MViTv2_S = MViTv2
MViTv2_T = MViTv2
Mixer_B16 = MLPMixer
Mixer_B32 = MLPMixer
Mixer_L16 = MLPMixer
Mixer_L32 = MLPMixer
Mixer_S16 = MLPMixer
Mixer_S32 = MLPMixer
MobileFormer_151M = MobileFormer
MobileFormer_214M = MobileFormer
MobileFormer_26M = MobileFormer
MobileFormer_294M = MobileFormer
MobileFormer_508M = MobileFormer
MobileFormer_52M = MobileFormer
MobileFormer_96M = MobileFormer
MobileViTV2_050 = MobileViTV2
MobileViTV2_075 = MobileViTV2
MobileViTV2_100 = MobileViTV2
MobileViTV2_125 = MobileViTV2
MobileViTV2_150 = MobileViTV2
MobileViTV2_175 = MobileViTV2
MobileViTV2_200 = MobileViTV2
MobileViT_S = MobileViT
MobileViT_XS = MobileViT
MobileViT_XXS = MobileViT
NAT_Base = NAT
NAT_Mini = NAT
NAT_Small = NAT
NAT_Tiny = NAT
PVT_L = PVT
PVT_M = PVT
PVT_S = PVT
PVT_T = PVT
PVTv2_B0 = PVTv2
PVTv2_B1 = PVTv2
PVTv2_B2 = PVTv2
PVTv2_B2_Li = PVTv2
PVTv2_B3 = PVTv2
PVTv2_B4 = PVTv2
PVTv2_B5 = PVTv2
SwinV2_B = SwinV2
SwinV2_L = SwinV2
SwinV2_S = SwinV2
SwinV2_T = SwinV2
Swin_B = Swin
Swin_L = Swin
Swin_S = Swin
Swin_T = Swin
T2T_10 = T2T
T2T_12 = T2T
T2T_14 = T2T
T2T_19 = T2T
T2T_24 = T2T
T2T_7 = T2T
T2T_t_14 = T2T
T2T_t_19 = T2T
T2T_t_24 = T2T
TNT_B = TNT
TNT_S = TNT
TwinsPCPVT_B = Twins
TwinsPCPVT_L = Twins
TwinsPCPVT_S = Twins
TwinsSVT_B = Twins
TwinsSVT_L = Twins
TwinsSVT_S = Twins
ViT_B16 = ViT
ViT_B28 = ViT
ViT_B32 = ViT
ViT_B8 = ViT
ViT_G14 = ViT
ViT_H14 = ViT
ViT_L16 = ViT
ViT_L32 = ViT
ViT_S16 = ViT
ViT_S32 = ViT
ViT_Ti16 = ViT
ViT_XS16 = ViT
ViT_XS28 = ViT
ViT_g14 = ViT
XCiT_Large24_P16 = XCiT
XCiT_Large24_P8 = XCiT
XCiT_Medium24_P16 = XCiT
XCiT_Medium24_P8 = XCiT
XCiT_Nano12_P16 = XCiT
XCiT_Nano12_P8 = XCiT
XCiT_Small12_P16 = XCiT
XCiT_Small12_P8 = XCiT
XCiT_Small24_P16 = XCiT
XCiT_Small24_P8 = XCiT
XCiT_Tiny12_P16 = XCiT
XCiT_Tiny12_P8 = XCiT
XCiT_Tiny24_P16 = XCiT
XCiT_Tiny24_P8 = XCiT
iGPT_L = iGPT
iGPT_M = iGPT
iGPT_S = iGPT
