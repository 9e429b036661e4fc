#!/usr/bin/env python3
"""Runs the cases that the emulator's tests export on a GPU and compares the results byte for byte.

PTX_EMULATOR_EXPORT=DIR cargo test -p ptx_emulator --test 'tensor_*' --test 'async_*'
python3 on_device.py DIR [DIR for what differs]
"""
import ctypes, glob, json, os, select, subprocess, sys

cuda = ctypes.CDLL("libcuda.so.1")
TYPES = {"U8": 0, "U16": 1, "U32": 2, "S32": 3, "U64": 4, "S64": 5, "F16": 6, "F32": 7, "F64": 8, "Bf16": 9}
SWIZZLES = {"None": 0, "B32": 1, "B64": 2, "B128": 3}


def check(code, what):
    if code:
        raise RuntimeError(f"{what}: CUDA error {code}")


class Attribute(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_uint * 16)]


class Config(ctypes.Structure):
    _fields_ = [("shape", ctypes.c_uint * 6), ("shared", ctypes.c_uint), ("stream", ctypes.c_void_p),
                ("attributes", ctypes.c_void_p), ("count", ctypes.c_uint)]


def tensor_map(arg, address):
    raw = ctypes.create_string_buffer(192)
    at = (ctypes.addressof(raw) + 63) & ~63
    rank = len(arg["dims"])
    dims = (ctypes.c_uint64 * rank)(*arg["dims"])
    strides = (ctypes.c_uint64 * max(rank - 1, 1))(*arg["strides"])
    box = (ctypes.c_uint32 * rank)(*arg["box"])
    steps = (ctypes.c_uint32 * rank)(*arg["steps"])
    check(cuda.cuTensorMapEncodeTiled(
        ctypes.c_void_p(at), TYPES[arg["type"]], rank, ctypes.c_void_p(address), dims, strides, box, steps,
        0, SWIZZLES[arg["swizzle"]], 0, int(arg["fill"] == "Nan")), "cuTensorMapEncodeTiled")
    return (ctypes.c_char * 128).from_buffer_copy(ctypes.string_at(at, 128))


def run(directory, name, keep):
    case = json.load(open(f"{directory}/{name}.json"))
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    text = open(f"{directory}/{name}.ptx", "rb").read() + b"\0"
    log = ctypes.create_string_buffer(4096)
    options = (ctypes.c_int * 2)(5, 6)
    values = (ctypes.c_void_p * 2)(ctypes.addressof(log), 4096)
    if cuda.cuModuleLoadDataEx(ctypes.byref(module), text, 2, options, values):
        return f"not compiled: {log.value.decode()}"
    check(cuda.cuModuleGetFunction(ctypes.byref(function), module, b"test"), "function")
    check(cuda.cuFuncSetAttribute(function, 8, case["shared"]), "shared memory")
    buffers, params, addresses = [], [], []
    for arg in case["args"]:
        address = ctypes.c_uint64()
        file = arg.get("in") or arg.get("out")
        if file:
            data = open(f"{directory}/{file}", "rb").read()
            check(cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(max(len(data), 1))), "memory")
            start = data if "in" in arg else bytes(len(data))
            check(cuda.cuMemcpyHtoD_v2(address, start, ctypes.c_size_t(len(data))), "upload")
            if "out" in arg:
                buffers.append((address, data, file))
            params.append(address)
        elif "map" in arg:
            params.append(tensor_map(arg, addresses[arg["map"]].value))
        else:
            params.append(ctypes.c_uint32(arg["u32"]))
        addresses.append(address)
    pointers = (ctypes.c_void_p * len(params))(*[ctypes.addressof(p) for p in params])
    attribute = Attribute(4, 0)
    attribute.value[0] = case["cluster"]
    attribute.value[1] = attribute.value[2] = 1
    config = Config()
    config.shape[:] = [case["grid"], 1, 1, case["block"], 1, 1]
    config.shared = case["shared"]
    config.attributes = ctypes.addressof(attribute)
    config.count = int(case["cluster"] > 1)
    check(cuda.cuLaunchKernelEx(ctypes.byref(config), function, pointers, None), "launch")
    check(cuda.cuCtxSynchronize(), "kernel")
    answer = "equal"
    for address, expected, file in buffers:
        got = ctypes.create_string_buffer(len(expected))
        check(cuda.cuMemcpyDtoH_v2(got, address, ctypes.c_size_t(len(expected))), "download")
        wrong = sum(a != b for a, b in zip(got.raw, expected))
        if wrong:
            answer = f"{wrong} of {len(expected)} bytes differ"
            if keep:
                open(f"{keep}/{file}", "wb").write(got.raw)
    cuda.cuModuleUnload(module)
    return answer


def child(directory, keep, names):
    device, context = ctypes.c_int(), ctypes.c_void_p()
    check(cuda.cuInit(0), "cuInit")
    check(cuda.cuDeviceGet(ctypes.byref(device), 0), "device")
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "context")
    check(cuda.cuCtxSetCurrent(context), "context")
    for name in names:
        try:
            answer = run(directory, name, keep)
        except RuntimeError as error:
            print(error, flush=True)
            os._exit(1)
        print(answer.replace("\n", " "), flush=True)


def main():
    directory, keep = sys.argv[1], (sys.argv[2:] or [""])[0]
    if sys.argv[3:]:
        return child(directory, keep, sys.argv[3:])
    left = sorted(os.path.basename(p)[:-5] for p in glob.glob(f"{directory}/*.json"))
    total, equal = len(left), 0
    while left:
        # A case that fails or hangs takes its process with it; the others go on in a new one.
        process = subprocess.Popen([sys.executable, __file__, directory, keep, *left], stdout=subprocess.PIPE)
        while left:
            ready, _, _ = select.select([process.stdout], [], [], 30)
            line = process.stdout.readline().decode().strip() if ready else "no end within 30 s"
            name = left.pop(0)
            equal += line == "equal"
            if line != "equal":
                print(f"{name}: {line or 'no answer'}", flush=True)
            if not ready or not line or "error" in line:
                break
        process.kill()
        process.wait()
    print(f"{equal} of {total} cases equal")


main()
