// An exact Markov chain of |m| from the draws of a pool `.h5`, read by the HDF5 C library.
//
//     latticediff propose phi4-A-L16 --n 10000 --out pool.h5
//     g++ -O2 -std=c++17 accept_hdf5.cpp $(pkg-config --cflags --libs hdf5) -o accept_hdf5 && ./accept_hdf5 pool.h5 1
//
// Data sets phi (n, *lattice), action (n,), log_q (n,), float64; `consumed`, one 64-bit integer. Every draw is used
// once: the number of used ones is written to the file before they are.

#include <hdf5.h>

#include <algorithm>
#include <vector>

#include "chain.hpp"

namespace {

constexpr hsize_t kBatch = 1024;  // draws read at a time

// An identifier of the library, closed when it goes out of scope; a negative one is an error.
class Handle {
  public:
    Handle(hid_t id, herr_t (*close)(hid_t), const std::string &what) : id_(id), close_(close) {
        if (id < 0) refuse(what);
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { close_(id_); }
    operator hid_t() const { return id_; }

  private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};

void require(herr_t status, const std::string &what) {
    if (status < 0) refuse(what);
}

// A text of any length, as an attribute of the root.
std::string text_attribute(hid_t file, const char *name, const std::string &no_pool) {
    const Handle attribute(H5Aopen(file, name, H5P_DEFAULT), H5Aclose, no_pool);
    const Handle stored(H5Aget_type(attribute), H5Tclose, no_pool);
    if (H5Tget_class(stored) != H5T_STRING || H5Tis_variable_str(stored) <= 0) refuse(no_pool);
    const Handle wanted(H5Tcopy(H5T_C_S1), H5Tclose, no_pool);
    require(H5Tset_size(wanted, H5T_VARIABLE), no_pool);
    require(H5Tset_cset(wanted, H5Tget_cset(stored)), no_pool);
    char *text = nullptr;
    require(H5Aread(attribute, wanted, &text), no_pool);
    const std::string found = text == nullptr ? "" : text;
    H5free_memory(text);
    return found;
}

std::vector<hsize_t> extents(hid_t data, const std::string &what) {
    const Handle space(H5Dget_space(data), H5Sclose, what);
    std::vector<hsize_t> found(static_cast<std::size_t>(std::max(0, H5Sget_simple_extent_ndims(space))));
    H5Sget_simple_extent_dims(space, found.data(), nullptr);
    return found;
}

// Rows `start` to `start + count` of a data set, as double in the order of the machine.
void read_rows(hid_t data, hsize_t start, hsize_t count, std::vector<double> &rows, const std::string &what) {
    const Handle space(H5Dget_space(data), H5Sclose, what);
    auto block = extents(data, what);
    std::vector<hsize_t> first(block.size(), 0);
    first[0] = start;
    block[0] = count;
    const Handle memory(H5Screate_simple(static_cast<int>(block.size()), block.data(), nullptr), H5Sclose, what);
    require(H5Sselect_hyperslab(space, H5S_SELECT_SET, first.data(), nullptr, block.data(), nullptr), what);
    require(H5Dread(data, H5T_NATIVE_DOUBLE, memory, space, H5P_DEFAULT, rows.data()), what);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 3) refuse("expected POOL.h5 SEED");
    const std::string path = argv[1], no_pool = path + " is no pool", broken = path + " cannot be read";
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // errors are said in one line of ours
    const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose,
                      path + " cannot be opened as HDF5 for reading and writing");
    if (text_attribute(file, "schema", no_pool) != "latticediff-pool") refuse(no_pool);
    long long version = 0;
    const Handle number(H5Aopen(file, "schema_version", H5P_DEFAULT), H5Aclose, no_pool);
    require(H5Aread(number, H5T_NATIVE_LLONG, &version), no_pool);
    if (version != 1) refuse(path + " is a pool of version " + std::to_string(version) + "; expected 1");

    const Handle phi(H5Dopen2(file, "phi", H5P_DEFAULT), H5Dclose, no_pool);
    const Handle action(H5Dopen2(file, "action", H5P_DEFAULT), H5Dclose, no_pool);
    const Handle log_q(H5Dopen2(file, "log_q", H5P_DEFAULT), H5Dclose, no_pool);
    const Handle consumed(H5Dopen2(file, "consumed", H5P_DEFAULT), H5Dclose, no_pool);
    const auto shape = extents(phi, broken);
    if (shape.size() < 2 || extents(action, broken) != std::vector<hsize_t>{shape[0]} ||
        extents(log_q, broken) != std::vector<hsize_t>{shape[0]})
        refuse(path + ": phi, action and log_q have not one length");
    const hsize_t n = shape[0];
    hsize_t volume = 1;
    for (std::size_t axis = 1; axis < shape.size(); ++axis) volume *= shape[axis];

    long long used = 0;
    require(H5Dread(consumed, H5T_NATIVE_LLONG, H5S_ALL, H5S_ALL, H5P_DEFAULT, &used), broken);
    if (used != 0) refuse(path + ": " + std::to_string(used) + " of its draws have been used; propose others");
    // on disk before the first draw is used: a draw may be lost, and never counts twice
    const long long all = static_cast<long long>(n);
    require(H5Dwrite(consumed, H5T_NATIVE_LLONG, H5S_ALL, H5S_ALL, H5P_DEFAULT, &all), path + " cannot be marked");
    require(H5Fflush(file, H5F_SCOPE_GLOBAL), path + " cannot be marked");

    Chain chain(static_cast<std::size_t>(volume), std::stoull(argv[2]));
    const auto rows = static_cast<std::size_t>(std::min(n, kBatch));
    std::vector<double> fields(rows * static_cast<std::size_t>(volume)), actions(rows), densities(rows);
    for (hsize_t start = 0; start < n; start += kBatch) {
        const hsize_t count = std::min(kBatch, n - start);
        read_rows(phi, start, count, fields, broken);
        read_rows(action, start, count, actions, broken);
        read_rows(log_q, start, count, densities, broken);
        for (hsize_t i = 0; i < count; ++i) chain.offer(actions[i], densities[i], fields.data() + i * volume);
    }
    chain.print();
}
