// A simulated GPU for tests: a torch backend whose memory is separate from the CPU's for everything but the hardware.
//
// Tensors on it cannot be mixed with CPU tensors, memory has a limit, and launches, synchronizations and transfers are
// counted. Operators run on the CPU. Everything is synchronous, so it cannot show races between streams, nor real speed.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/InferSize.h>
#include <ATen/TensorUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;

namespace {

constexpr auto kSimulated = c10::DeviceType::PrivateUse1;
constexpr int kMaxDevices = 4;
constexpr size_t kBlockBytes = 512;  // allocations are rounded up, as CUDA's are

// What tests read and set through the C functions at the end of this file.
struct Counters {
  std::atomic<int64_t> launches, synchronizations, bytes_to_device, bytes_to_host, pageable_bytes, allocations, bytes_moved;
};
struct Memory {
  std::atomic<int64_t> allocated{0}, peak{0}, limit{int64_t(1) << 40};
};
Counters counters;
Memory memories[kMaxDevices];
std::atomic<int> device_count{0};
std::atomic<int64_t> failing_allocation{-1};  // allocations until one fails, once; negative: none does
std::atomic<int> unsupported_dtype{-1};       // a c10::ScalarType
std::atomic<bool> computes{true};             // false: operators only allocate their results
thread_local DeviceIndex current_device = 0;

std::mutex names_mutex;
std::map<std::string, int64_t> launches_by_name;

// Operators that run inside of another operator's CPU kernel are not counted.
thread_local bool is_nested = false;
struct Nested {
  bool before = is_nested;
  Nested() { is_nested = true; }
  ~Nested() { is_nested = before; }
};

// While a captured graph is replayed: its operators are computed again, in memory that it has already.
thread_local bool is_replaying = false;

void count_launch(const std::string& name) {
  if (is_nested) return;
  counters.launches++;
  std::lock_guard<std::mutex> lock(names_mutex);
  launches_by_name[name]++;
}

void count_synchronization() {
  if (!is_nested) counters.synchronizations++;
}

// ---------------------------------------------------------------------------------------------------------- memory

struct DeviceAllocator final : c10::Allocator {
  struct Block {
    void* data;
    size_t bytes;
    DeviceIndex device;
  };

  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    memories[block->device].allocated -= block->bytes;
    std::free(block->data);
    delete block;
  }
  static void release_nothing(void*) {}

  c10::DataPtr allocate(size_t bytes) override {
    const Device device(kSimulated, current_device);
    if (bytes == 0) return {nullptr, nullptr, &release_nothing, device};
    const size_t rounded = (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    Memory& memory = memories[current_device];
    const bool fails = !is_replaying && failing_allocation.load() >= 0 && failing_allocation.fetch_sub(1) == 0;
    if (fails || (!is_replaying && memory.allocated + int64_t(rounded) > memory.limit)) {
      TORCH_CHECK_WITH(OutOfMemoryError, false, "simulated GPU out of memory. Tried to allocate ", rounded, " bytes");
    }
    void* data = nullptr;
    if (posix_memalign(&data, 64, rounded) != 0) throw std::bad_alloc();
    if (!is_replaying) counters.allocations++;
    const int64_t now = memory.allocated += rounded;
    for (int64_t peak = memory.peak; now > peak && !memory.peak.compare_exchange_weak(peak, now);) {
    }
    return {data, new Block{data, rounded, current_device}, &release, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
DeviceAllocator device_allocator;

struct PinnedAllocator final : c10::Allocator {
  static std::mutex mutex;
  static std::map<const char*, size_t> blocks;

  static void release(void* data) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      blocks.erase(static_cast<char*>(data));
    }
    std::free(data);
  }
  c10::DataPtr allocate(size_t bytes) override {
    void* data = nullptr;
    if (posix_memalign(&data, 64, std::max<size_t>(bytes, 1)) != 0) throw std::bad_alloc();
    std::lock_guard<std::mutex> lock(mutex);
    blocks[static_cast<char*>(data)] = bytes;
    return {data, data, &release, Device(c10::kCPU)};
  }
  static bool contains(const void* pointer) {
    std::lock_guard<std::mutex> lock(mutex);
    auto after = blocks.upper_bound(static_cast<const char*>(pointer));
    if (after == blocks.begin()) return false;
    --after;
    return static_cast<const char*>(pointer) < after->first + after->second;
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};
std::mutex PinnedAllocator::mutex;
std::map<const char*, size_t> PinnedAllocator::blocks;
PinnedAllocator pinned_allocator;

struct DeviceGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kSimulated; }
  Device exchangeDevice(Device device) const override {
    const Device before(kSimulated, current_device);
    current_device = device.index();
    return before;
  }
  Device getDevice() const override { return Device(kSimulated, current_device); }
  void setDevice(Device device) const override { current_device = device.index(); }
  void uncheckedSetDevice(Device device) const noexcept override { current_device = device.index(); }
  c10::Stream getStream(Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getDefaultStream(Device device) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return getStream(stream.device()); }
  // Autograd starts a thread for each of these devices at the first backward pass of the process, and no more later.
  DeviceIndex deviceCount() const noexcept override { return kMaxDevices; }
  void synchronizeDevice(DeviceIndex) const override { count_synchronization(); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, DeviceGuard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return DeviceIndex(device_count.load()); }
  DeviceIndex getCurrentDevice() const override { return current_device; }
  void setCurrentDevice(DeviceIndex device) const override { current_device = device; }
  DeviceIndex exchangeDevice(DeviceIndex device) const override { return std::exchange(current_device, device); }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override { return std::exchange(current_device, device); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  bool isPinnedPtr(const void* pointer) const override { return PinnedAllocator::contains(pointer); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    c10::DeviceGuard guard(storage.device());
    auto larger = device_allocator.allocate(bytes);
    if (storage.data()) std::memcpy(larger.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr(std::move(larger));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};

// ------------------------------------------------------------------------------------------------- creation and views

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

void check_dtype(c10::ScalarType dtype) {
  TORCH_CHECK(int(dtype) != unsupported_dtype, "the simulated GPU does not support ", c10::toString(dtype));
}

Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  check_dtype(c10::dtype_or_default(dtype));
  return at::detail::empty_generic(size, &device_allocator, kKeys, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<Device> device, std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  check_dtype(c10::dtype_or_default(dtype));
  return at::detail::empty_strided_generic(size, stride, &device_allocator, kKeys, c10::dtype_or_default(dtype));
}

// A CPU tensor over the device's memory, for the kernels in this file.
Tensor host_view(const Tensor& tensor) {
  if (!tensor.device().is_privateuseone()) return tensor;
  auto storage = tensor.storage();
  auto* data = static_cast<char*>(storage.mutable_data()) + tensor.storage_offset() * tensor.element_size();
  const auto options = at::TensorOptions().dtype(tensor.dtype()).device(c10::kCPU);
  return at::from_blob(data, tensor.sizes(), tensor.strides(), [storage](void*) {}, options);
}

Tensor typed_view(const Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride, int64_t offset,
                  at::ScalarType dtype) {
  auto view = at::detail::make_tensor<at::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(self.storage()),
                                                      self.key_set(), c10::scalarTypeToTypeMeta(dtype));
  view.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return view;
}

Tensor strided_view(const Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<int64_t> offset) {
  return typed_view(self, size, stride, offset.value_or(self.storage_offset()), self.scalar_type());
}

Tensor view_as_real(const Tensor& self) {
  auto size = self.sizes().vec(), stride = self.strides().vec();
  for (auto& step : stride) step *= 2;
  size.push_back(2);
  stride.push_back(1);
  return typed_view(self, size, stride, 2 * self.storage_offset(), c10::toRealValueType(self.scalar_type()));
}

Tensor view_as_complex(const Tensor& self) {
  auto size = self.sizes().vec(), stride = self.strides().vec();
  TORCH_CHECK(size.back() == 2 && stride.back() == 1, "view_as_complex needs pairs that lie side by side");
  size.pop_back();
  stride.pop_back();
  for (auto& step : stride) step /= 2;
  return typed_view(self, size, stride, self.storage_offset() / 2, c10::toComplexType(self.scalar_type()));
}

Tensor unfold(const Tensor& self, int64_t dim, int64_t length, int64_t step) {
  auto size = self.sizes().vec(), stride = self.strides().vec();
  dim = c10::maybe_wrap_dim(dim, self.dim());
  size.push_back(length);
  stride.push_back(stride[dim]);
  size[dim] = (size[dim] - length) / step + 1;
  stride[dim] *= step;
  return strided_view(self, size, stride, self.storage_offset());
}

Tensor resized_view(const Tensor& self, c10::IntArrayRef size) {
  const auto inferred = at::infer_size(size, self.numel());
  const auto stride = at::detail::computeStride(self.sizes(), self.strides(), inferred);
  TORCH_CHECK(stride.has_value(), "view size is not compatible with input tensor's size and stride; use reshape");
  return strided_view(self, inferred, *stride, self.storage_offset());
}

Tensor reshape_alias(const Tensor& self, c10::IntArrayRef size, c10::IntArrayRef stride) {
  return strided_view(self, size, stride, self.storage_offset());
}

const Tensor& resize_(const Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  auto* impl = self.unsafeGetTensorImpl();
  const size_t needed = (c10::multiply_integers(size) + self.storage_offset()) * self.element_size();
  if (self.storage().nbytes() < needed) Hooks().resizePrivateUse1Bytes(self.storage(), needed);
  impl->set_sizes_contiguous(size);
  if (format) impl->empty_tensor_restride(*format);
  return self;
}

Tensor& set_storage(Tensor& self, at::Storage storage, int64_t offset, c10::IntArrayRef size, c10::IntArrayRef stride) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(size, stride, offset);
  return self;
}

// ---------------------------------------------------------------------------------------------------------- transfers

Tensor copy_from(const Tensor& self, const Tensor& target, bool non_blocking) {
  const bool from_device = self.device().is_privateuseone(), to_device = target.device().is_privateuseone();
  if (from_device != to_device && !is_nested) {
    const Tensor& host = from_device ? target : self;
    const bool is_pinned = host.is_pinned();
    const int64_t bytes = self.numel() * self.element_size();  // the dtype is converted at the target
    (from_device ? counters.bytes_to_host : counters.bytes_to_device) += bytes;
    if (!is_pinned) counters.pageable_bytes += bytes;
    if (!is_pinned || !non_blocking) count_synchronization();
  } else if (from_device && to_device) {
    count_launch("aten::copy_");
    if (!is_nested) counters.bytes_moved += self.numel() * self.element_size() + target.numel() * target.element_size();
  }
  const Nested nested;
  if (computes || from_device != to_device) host_view(target).copy_(host_view(self));
  return target;
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& target) {
  if (target.sizes() != self.sizes()) target.resize_(self.sizes());
  return copy_from(self, target, false);
}

at::Scalar local_scalar(const Tensor& self) {
  count_synchronization();
  return host_view(self).item();
}

// ---------------------------------------------------------------------------------------------------------- operators

Tensor float_view(const Tensor& tensor) { return host_view(tensor).to(at::kFloat); }

Tensor to_device(const Tensor& value, const Tensor& like) {
  auto result = at::empty_strided(value.sizes(), value.strides(), value.options().device(like.device()));
  host_view(result).copy_(value);
  return result;
}

// Convolutions of half precision are summed in float32, as tensor cores do.
Tensor convolution(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, c10::IntArrayRef stride,
                   c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                   c10::IntArrayRef output_padding, int64_t groups) {
  count_launch("aten::convolution");
  const bool has_bias = bias && bias->defined();
  TORCH_CHECK(input.device() == weight.device() && (!has_bias || bias->device() == input.device()),
              "convolution: tensors are on different devices");
  TORCH_CHECK(input.scalar_type() == weight.scalar_type(), "convolution: the input is ", input.scalar_type(),
              " and the weight is ", weight.scalar_type());
  const Nested nested;
  auto run = [&](const Tensor& x, const Tensor& w, const std::optional<Tensor>& b) {
    return at::convolution(x, w, b, stride, padding, dilation, transposed, output_padding, groups);
  };
  if (!computes) {
    const auto shape = run(input.to(at::kMeta), weight.to(at::kMeta), std::nullopt);
    return at::empty(shape.sizes(), input.options(), input.suggest_memory_format());
  }
  const auto bias_view = has_bias ? std::optional<Tensor>(float_view(*bias)) : std::nullopt;
  return to_device(run(float_view(input), float_view(weight), bias_view).to(input.scalar_type()), input);
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(const Tensor& grad, const Tensor& input, const Tensor& weight,
                                                        c10::IntArrayRef stride, c10::IntArrayRef padding,
                                                        c10::IntArrayRef dilation, bool transposed,
                                                        c10::IntArrayRef output_padding, int64_t groups,
                                                        std::array<bool, 3> mask) {
  count_launch("aten::convolution_backward");
  const Nested nested;
  const std::vector<int64_t> bias_size{grad.size(1)};
  auto [dx, dw, db] = at::convolution_backward(float_view(grad), float_view(input), float_view(weight), bias_size, stride,
                                               padding, dilation, transposed, output_padding, groups, mask);
  auto back = [&](const Tensor& value) {
    return value.defined() ? to_device(value.to(input.scalar_type()), input) : value;
  };
  return {back(dx), back(dw), back(db)};
}

Tensor on_meta(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.device().is_privateuseone()) return tensor;
  return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(c10::kMeta));
}

struct Shape {
  std::vector<int64_t> sizes, strides;
  at::ScalarType dtype;
};
using Shapes = std::vector<std::optional<Shape>>;  // of each result; none for one that is no tensor

// Everything that decides the shapes of the results: the operator, shapes of tensors, and other arguments.
std::string describe_call(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments) {
  std::ostringstream text;
  const auto add = [&](const Tensor& tensor) {
    if (tensor.defined()) text << tensor.sizes() << tensor.strides() << tensor.scalar_type() << tensor.device().type();
  };
  text << op.schema().name() << op.schema().overload_name();
  for (const auto& argument : arguments) {
    text << '|';
    if (argument.isTensor()) {
      add(argument.toTensor());
    } else if (argument.isTensorList()) {
      for (const Tensor& tensor : argument.toTensorVector()) add(tensor);
    } else {
      text << argument;
    }
  }
  return text.str();
}

// Runs the operator on the meta device: its kernels there are Python, and slower than whole launches on a GPU.
Shapes infer_shapes(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments) {
  torch::jit::Stack meta;
  for (const auto& argument : arguments) {
    if (argument.isTensor()) {
      meta.emplace_back(on_meta(argument.toTensor()));
    } else if (argument.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& tensor : argument.toTensorVector()) list.push_back(on_meta(tensor));
      meta.emplace_back(list);
    } else if (argument.isDevice()) {
      meta.emplace_back(Device(c10::kMeta));
    } else {
      meta.emplace_back(argument);
    }
  }
  op.callBoxed(meta);
  Shapes shapes;
  for (const auto& result : meta) {
    if (result.isTensor()) {
      const Tensor& tensor = result.toTensor();
      shapes.push_back(Shape{tensor.sizes().vec(), tensor.strides().vec(), tensor.scalar_type()});
    } else {
      shapes.push_back(std::nullopt);
    }
  }
  return shapes;
}

Shapes cached_shapes(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments) {
  static std::mutex mutex;
  static std::map<std::string, Shapes> cache;
  const std::string key = describe_call(op, arguments);
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (const auto found = cache.find(key); found != cache.end()) return found->second;
  }
  const Shapes shapes = infer_shapes(op, arguments);
  std::lock_guard<std::mutex> lock(mutex);
  return cache[key] = shapes;
}

Device device_of(const std::vector<c10::IValue>& arguments) {
  for (const auto& argument : arguments) {
    if (argument.isTensor() && argument.toTensor().defined() && argument.toTensor().device().is_privateuseone())
      return argument.toTensor().device();
    if (argument.isTensorList() && !argument.toTensorVector().empty()) return argument.toTensorVector()[0].device();
  }
  return Device(kSimulated, current_device);
}

// Allocates the results of an operator without computing them.
void allocate_results(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto arguments = torch::jit::last(*stack, schema.arguments().size()).vec();
  const auto shapes = cached_shapes(op, arguments);
  const auto device = device_of(arguments);
  torch::jit::drop(*stack, arguments.size());
  for (size_t i = 0; i < schema.returns().size(); i++) {
    const auto* alias = schema.returns()[i].alias_info();
    c10::IValue result;
    if (alias != nullptr && alias->isWrite()) {  // in place, or `out=`: the argument itself
      for (size_t k = 0; k < arguments.size(); k++) {
        const auto* other = schema.arguments()[k].alias_info();
        if (other != nullptr && other->beforeSets() == alias->beforeSets()) result = arguments[k];
      }
      // `abs` and others pass an empty tensor as `out`, which has to grow.
      if (result.isTensor() && shapes[i].has_value() && result.toTensor().sizes() != shapes[i]->sizes)
        result.toTensor().resize_(shapes[i]->sizes);
    } else {
      TORCH_CHECK(shapes[i].has_value(), schema.name(), " returns no tensor, so it needs a simulated GPU that computes");
      const auto options = at::TensorOptions().dtype(shapes[i]->dtype).device(device);
      result = at::empty_strided(shapes[i]->sizes, shapes[i]->strides, options);
    }
    // What the program may look at, such as a sum.
    if (result.isTensor() && result.toTensor().numel() <= 16) host_view(result.toTensor()).zero_();
    stack->push_back(result);
  }
}

int64_t count_bytes(const c10::IValue& value) {
  const auto size = [](const Tensor& tensor) { return tensor.defined() ? int64_t(tensor.nbytes()) : 0; };
  if (value.isTensor()) return size(value.toTensor());
  int64_t bytes = 0;
  if (value.isTensorList()) {
    for (const Tensor& tensor : value.toTensorVector()) bytes += size(tensor);
  }
  return bytes;
}

// Counts what an operator reads and writes. `out` is among the arguments, and is not read.
void count_moved_bytes(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments,
                       const std::vector<c10::IValue>& results) {
  for (size_t i = 0; i < arguments.size(); i++) {
    if (!op.schema().arguments()[i].is_out()) counters.bytes_moved += count_bytes(arguments[i]);
  }
  for (const auto& result : results) counters.bytes_moved += count_bytes(result);
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const std::string name = op.schema().name();
  count_launch(name);
  const bool is_counted = !is_nested;
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size()).vec();
  if (name == "aten::nonzero" || name == "aten::masked_select" || name == "aten::equal") count_synchronization();
  const Nested nested;
  if (computes) {
    at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
  } else {
    allocate_results(op, stack);
  }
  if (is_counted) count_moved_bytes(op, arguments, torch::jit::last(*stack, op.schema().returns().size()).vec());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &strided_view);
  library.impl("view", &resized_view);
  library.impl("view_as_real", &view_as_real);
  library.impl("view_as_complex", &view_as_complex);
  library.impl("unfold", &unfold);
  library.impl("native_group_norm", torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
  library.impl("_reshape_alias", &reshape_alias);
  library.impl("resize_", &resize_);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &local_scalar);
  library.impl("convolution_overrideable", &convolution);
  library.impl("convolution_backward_overrideable", &convolution_backward);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {  // KERNEL_PRIVATEUSEONE needs this name
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(prelu, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- read by Python

extern "C" {

void simulated_gpu_register() { at::RegisterPrivateUse1HooksInterface(new Hooks()); }

void simulated_gpu_configure(int devices, int64_t limit, bool computing, int dtype) {
  device_count = devices;
  for (Memory& memory : memories) memory.limit = limit;
  computes = computing;
  unsupported_dtype = dtype;
  failing_allocation = -1;
}

// launches, synchronizations, bytes to the device, bytes to the host, bytes of pageable memory, allocations, bytes moved
void simulated_gpu_read_counters(int64_t* values) {
  const std::atomic<int64_t>* all[] = {&counters.launches,      &counters.synchronizations, &counters.bytes_to_device,
                                       &counters.bytes_to_host, &counters.pageable_bytes,   &counters.allocations,
                                       &counters.bytes_moved};
  for (const auto* counter : all) *values++ = *counter;
}

void simulated_gpu_count_synchronization() { count_synchronization(); }

// All operators of this thread until `simulated_gpu_end_replay` are those of one captured graph, a single launch.
void simulated_gpu_begin_replay() {
  count_launch("graph");
  is_nested = is_replaying = true;
}
void simulated_gpu_end_replay() { is_nested = is_replaying = false; }

// Calls `visit` for each operator that was launched.
void simulated_gpu_read_launches(void (*visit)(const char* name, int64_t count)) {
  std::lock_guard<std::mutex> lock(names_mutex);
  for (const auto& [name, count] : launches_by_name) visit(name.c_str(), count);
}

// allocated, peak, limit
void simulated_gpu_read_memory(int device, int64_t* values) {
  values[0] = memories[device].allocated;
  values[1] = memories[device].peak;
  values[2] = memories[device].limit;
}

void simulated_gpu_reset_peak(int device) { memories[device].peak = memories[device].allocated.load(); }
void simulated_gpu_set_limit(int device, int64_t bytes) { memories[device].limit = bytes; }
void simulated_gpu_fail_allocation(int64_t index) { failing_allocation = index; }
int simulated_gpu_device_count() { return device_count; }
int simulated_gpu_device() { return current_device; }
void simulated_gpu_set_device(int device) { current_device = DeviceIndex(device); }
}
