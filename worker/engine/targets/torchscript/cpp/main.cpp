// Loads the TorchScript file beside this folder and runs it with LibTorch.
//
//     run_model MODEL.pt            one made-up row; prints the outputs' shapes and first values
//     run_model MODEL.pt FOLDER     reads FOLDER/<input>.bin, writes FOLDER/<output>.bin
//
// A .bin file holds a tensor's values alone, in C order and the byte order of this machine; the size of the first axis
// that varies follows from the file's. Other axes that vary have the size that stands in the tables below.

#include <ATen/Context.h>
#include <torch/script.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

struct Tensor {
  std::string name;
  torch::ScalarType type;
  std::vector<int64_t> row;  // shape of one row, or of all there is where the first axis is fixed
  bool varies;               // the first axis
};

const std::vector<Tensor> kInputs = {
@INPUTS@
};

const std::vector<std::string> kOutputs = {@OUTPUTS@};

torch::Tensor read(const Tensor& wanted, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<int64_t> shape = wanted.row;
  if (wanted.varies) {
    const int64_t one = torch::empty(wanted.row, wanted.type).nbytes();
    shape[0] *= static_cast<int64_t>(bytes.size()) / one;
  }
  torch::Tensor tensor = torch::empty(shape, wanted.type);
  if (tensor.nbytes() != bytes.size()) throw std::runtime_error(path + " does not hold whole rows");
  std::copy(bytes.begin(), bytes.end(), static_cast<char*>(tensor.data_ptr()));
  return tensor;
}

void write(const torch::Tensor& tensor, const std::string& path) {
  const torch::Tensor values = tensor.contiguous();
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(values.data_ptr()), static_cast<std::streamsize>(values.nbytes()));
  if (!file) throw std::runtime_error("cannot write " + path);
}

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: " << argv[0] << " MODEL.pt [FOLDER]\n";
    return 2;
  }
  at::globalContext().setQEngine(at::QEngine::@ENGINE@);  // before loading: weights are packed for its kernels
  torch::jit::Module model = torch::jit::load(argv[1]);

  std::vector<torch::jit::IValue> inputs;
  for (const Tensor& wanted : kInputs) {
    inputs.emplace_back(argc > 2 ? read(wanted, std::string(argv[2]) + "/" + wanted.name + ".bin")
                                 : torch::zeros(wanted.row, wanted.type));
  }

  c10::InferenceMode inference;
  const torch::jit::IValue returned = model.forward(inputs);
  std::vector<torch::Tensor> outputs;
  if (returned.isTensor()) {
    outputs.push_back(returned.toTensor());
  } else {
    for (const torch::jit::IValue& value : returned.toTupleRef().elements()) outputs.push_back(value.toTensor());
  }

  for (size_t place = 0; place < outputs.size(); ++place) {
    if (argc > 2) write(outputs[place], std::string(argv[2]) + "/" + kOutputs[place] + ".bin");
    std::cout << kOutputs[place] << " " << outputs[place].sizes() << " " << outputs[place].flatten().slice(0, 0, 8)
              << "\n";
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
