"""Short programs that run a file, to start an application from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from keras_vit.edge.files.info import FileInfo, FileTensor

LANGUAGES = ("cpp", "kotlin")


def snippet(info: FileInfo, language: str) -> str:
    """Return a short program that prepares a picture, runs a file on it, and finds the class of the highest score.

    Args:
        info: What `keras_vit.edge.file_info` returned for a file that takes images and gives scores.
        language: "cpp" or "kotlin".

    Raises:
        ValueError: There is no program in this language, or for files that take or give something else.
    """
    if language not in LANGUAGES:
        raise ValueError(f"The language must be one of {LANGUAGES}; received {language!r}.")
    taken, given = info.inputs[0], info.outputs[0]
    is_float = {taken.dtype, given.dtype} == {"float32"}
    if len(info.inputs) != 1 or len(taken.shape) != 4 or -1 in taken.shape or not is_float:
        raise ValueError(
            f"There are programs for files that take one batch of images and give scores, both in float32; {info.file} "
            f"takes {', '.join(map(_kind, info.inputs))} and gives {', '.join(map(_kind, info.outputs))}."
        )
    return _WRITERS[info.format, language](info, _Facts(info))


class _Facts:
    """What the programs state of a file, in the notation that C++ and Kotlin share."""

    def __init__(self, info: FileInfo):
        said = None if info.description is None else info.description.preprocessing
        _, self.height, self.width, self.channels = info.inputs[0].shape
        self.file = os.path.basename(info.file)
        self.values = math.prod(info.inputs[0].shape)
        self.scores = info.outputs[0].shape[-1]
        self.scale = _list(said.scale if said else (1.0,) * self.channels)
        self.offset = _list(said.offset if said else (0.0,) * self.channels)
        self.first = (
            f"Resize the picture to cover {math.floor(self.height / said.crop_fraction)} x "
            f"{math.floor(self.width / said.crop_fraction)} pixels ({said.interpolation}) and crop the middle "
            f"{self.height} x {self.width}."
            if said
            else "The file does not say how it takes pictures: fill in scale and offset."
        )
        names = None if info.description is None else info.description.class_names
        self.classes = f"{len(names)} classes, {names[0]!r} first" if names else f"{self.scores} scores"


def _kind(tensor: FileTensor) -> str:
    return f"{tensor.dtype} {tensor.shape}"


def _list(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{float(number)!r}f" for number in numbers)


def _tflite_cpp(info: FileInfo, facts: _Facts) -> str:
    return f"""\
// Build with TensorFlow Lite (LiteRT) {(info.min_runtime or "").removeprefix("TensorFlow Lite ") or "2.17"} or newer.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "tensorflow/lite/interpreter.h"
#include "tensorflow/lite/interpreter_builder.h"
#include "tensorflow/lite/kernels/register.h"
#include "tensorflow/lite/model_builder.h"

class Classifier {{
 public:
  explicit Classifier(const char* path = "{facts.file}", int threads = 1)
      : model_(tflite::FlatBufferModel::BuildFromFile(path)) {{
    tflite::ops::builtin::BuiltinOpResolver resolver;
    if (!model_ || tflite::InterpreterBuilder(*model_, resolver)(&interpreter_, threads) != kTfLiteOk ||
        interpreter_->AllocateTensors() != kTfLiteOk) {{
      throw std::runtime_error("cannot load the model");
    }}
  }}

  // {facts.first}
  // `pixels` has {facts.values} bytes: rows, then columns, then {facts.channels} channels (RGB).
  // Returns the index of the class: {facts.classes}.
  int Classify(const std::vector<std::uint8_t>& pixels) {{
    static const float scale[] = {{{facts.scale}}}, offset[] = {{{facts.offset}}};
    float* input = interpreter_->typed_input_tensor<float>(0);
    for (std::size_t i = 0; i < pixels.size(); ++i) {{
      input[i] = scale[i % {facts.channels}] * pixels[i] + offset[i % {facts.channels}];
    }}
    if (interpreter_->Invoke() != kTfLiteOk) throw std::runtime_error("cannot run the model");
    const float* scores = interpreter_->typed_output_tensor<float>(0);
    return static_cast<int>(std::max_element(scores, scores + {facts.scores}) - scores);
  }}

 private:
  std::unique_ptr<tflite::FlatBufferModel> model_;
  std::unique_ptr<tflite::Interpreter> interpreter_;
}};
"""


def _tflite_kotlin(info: FileInfo, facts: _Facts) -> str:
    return f"""\
// build.gradle.kts: implementation("com.google.ai.edge.litert:litert:1.4.0"); the model is in src/main/assets.
import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

class Classifier(context: Context, path: String = "{facts.file}", threads: Int = 4) {{
    private val scale = floatArrayOf({facts.scale})
    private val offset = floatArrayOf({facts.offset})
    private val interpreter: Interpreter

    init {{
        val model = context.assets.openFd(path).use {{ asset ->
            FileInputStream(asset.fileDescriptor).channel.map(
                FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength
            )
        }}
        interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
    }}

    // {facts.first}
    // `bitmap` has {facts.width} x {facts.height} pixels. Returns the index of the class: {facts.classes}.
    fun classify(bitmap: Bitmap): Int {{
        val pixels = IntArray({facts.width} * {facts.height})
        bitmap.getPixels(pixels, 0, {facts.width}, 0, 0, {facts.width}, {facts.height})
        val input = ByteBuffer.allocateDirect(4 * {facts.values}).order(ByteOrder.nativeOrder())
        for (pixel in pixels) {{
            for (channel in 0 until {facts.channels}) {{
                val value = (pixel shr (16 - 8 * channel)) and 0xff
                input.putFloat(scale[channel] * value + offset[channel])
            }}
        }}
        val scores = arrayOf(FloatArray({facts.scores}))
        interpreter.run(input.rewind(), scores)
        return scores[0].indices.maxByOrNull {{ scores[0][it] }}!!
    }}
}}
"""


def _onnx_cpp(info: FileInfo, facts: _Facts) -> str:
    shape = ", ".join(map(str, info.inputs[0].shape))
    return f"""\
// Build with {info.min_runtime or "onnxruntime 1.17"} or newer.
#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include <onnxruntime_cxx_api.h>

class Classifier {{
 public:
  explicit Classifier(const ORTCHAR_T* path = ORT_TSTR("{facts.file}"))
      : session_(environment_, path, Ort::SessionOptions()) {{}}

  // {facts.first}
  // `pixels` has {facts.values} bytes: rows, then columns, then {facts.channels} channels (RGB).
  // Returns the index of the class: {facts.classes}.
  int Classify(const std::vector<std::uint8_t>& pixels) {{
    static const float scale[] = {{{facts.scale}}}, offset[] = {{{facts.offset}}};
    std::vector<float> input(pixels.size());
    for (std::size_t i = 0; i < pixels.size(); ++i) {{
      input[i] = scale[i % {facts.channels}] * pixels[i] + offset[i % {facts.channels}];
    }}
    const std::array<std::int64_t, 4> shape = {{{shape}}};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
    const auto tensor =
        Ort::Value::CreateTensor<float>(memory, input.data(), input.size(), shape.data(), shape.size());
    const char* inputs[] = {{"{info.inputs[0].name}"}};
    const char* outputs[] = {{"{info.outputs[0].name}"}};
    const auto results = session_.Run(Ort::RunOptions(), inputs, &tensor, 1, outputs, 1);
    const float* scores = results[0].GetTensorData<float>();
    return static_cast<int>(std::max_element(scores, scores + {facts.scores}) - scores);
  }}

 private:
  Ort::Env environment_;
  Ort::Session session_;
}};
"""


def _onnx_kotlin(info: FileInfo, facts: _Facts) -> str:
    shape = ", ".join(map(str, info.inputs[0].shape))
    return f"""\
// build.gradle.kts: implementation("com.microsoft.onnxruntime:onnxruntime-android:1.20.0"); the model is in
// src/main/assets.
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import android.content.Context
import android.graphics.Bitmap
import java.nio.ByteBuffer
import java.nio.ByteOrder

class Classifier(context: Context, path: String = "{facts.file}") {{
    private val scale = floatArrayOf({facts.scale})
    private val offset = floatArrayOf({facts.offset})
    private val environment = OrtEnvironment.getEnvironment()
    private val session = environment.createSession(context.assets.open(path).use {{ it.readBytes() }})

    // {facts.first}
    // `bitmap` has {facts.width} x {facts.height} pixels. Returns the index of the class: {facts.classes}.
    fun classify(bitmap: Bitmap): Int {{
        val pixels = IntArray({facts.width} * {facts.height})
        bitmap.getPixels(pixels, 0, {facts.width}, 0, 0, {facts.width}, {facts.height})
        val input = ByteBuffer.allocateDirect(4 * {facts.values}).order(ByteOrder.nativeOrder()).asFloatBuffer()
        for (pixel in pixels) {{
            for (channel in 0 until {facts.channels}) {{
                val value = (pixel shr (16 - 8 * channel)) and 0xff
                input.put(scale[channel] * value + offset[channel])
            }}
        }}
        input.rewind()
        OnnxTensor.createTensor(environment, input, longArrayOf({shape})).use {{ tensor ->
            session.run(mapOf("{info.inputs[0].name}" to tensor)).use {{ results ->
                @Suppress("UNCHECKED_CAST")
                val scores = (results[0].value as Array<FloatArray>)[0]
                return scores.indices.maxByOrNull {{ scores[it] }}!!
            }}
        }}
    }}
}}
"""


_WRITERS: dict[tuple[str, str], Callable[[FileInfo, _Facts], str]] = {
    ("tflite", "cpp"): _tflite_cpp,
    ("tflite", "kotlin"): _tflite_kotlin,
    ("onnx", "cpp"): _onnx_cpp,
    ("onnx", "kotlin"): _onnx_kotlin,
}
